# The topic, and one subscription per consumer with one rule.

resource "azurerm_servicebus_namespace" "main" {
  name                          = "sb-bulkhead-${var.environment_name}-${local.token}"
  resource_group_name           = azurerm_resource_group.main.name
  location                      = var.location
  tags                          = local.tags
  sku                           = local.locked_down ? "Premium" : "Standard"
  capacity                      = local.locked_down ? var.messaging_units : 0
  premium_messaging_partitions  = local.locked_down ? 1 : 0
  local_auth_enabled            = false
  minimum_tls_version           = "1.2"
  public_network_access_enabled = !local.locked_down
}

resource "azurerm_servicebus_topic" "orders" {
  name                                    = local.topic.name
  namespace_id                            = azurerm_servicebus_namespace.main.id
  requires_duplicate_detection            = local.topic.requiresDuplicateDetection
  duplicate_detection_history_time_window = local.topic.duplicateDetectionHistoryTimeWindow
  default_message_ttl                     = local.topic.defaultMessageTimeToLive
  max_size_in_megabytes                   = local.topic.maxSizeInMegabytes
}

resource "azurerm_servicebus_subscription" "consumer" {
  for_each                                  = { for s in local.topic.subscriptions : s.name => s }
  name                                      = each.key
  topic_id                                  = azurerm_servicebus_topic.orders.id
  lock_duration                             = each.value.lockDuration
  max_delivery_count                        = each.value.maxDeliveryCount
  default_message_ttl                       = each.value.defaultMessageTimeToLive
  dead_lettering_on_message_expiration      = each.value.deadLetteringOnMessageExpiration
  dead_lettering_on_filter_evaluation_error = true
  requires_session                          = false
}

resource "azurerm_servicebus_subscription_rule" "only" {
  for_each        = { for s in local.topic.subscriptions : s.name => s.rules[0] }
  name            = each.value.name
  subscription_id = azurerm_servicebus_subscription.consumer[each.key].id
  filter_type     = "SqlFilter"
  sql_filter      = each.value.sqlExpression
}
