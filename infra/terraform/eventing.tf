# What tells the world outside: a topic, and a queue that its events are delivered to. A queue and no
# webhook, because Event Grid cannot reach into a private network.

resource "azurerm_eventgrid_topic" "orders" {
  name                          = "evgt-bulkhead-${var.environment_name}-${local.token}"
  resource_group_name           = azurerm_resource_group.main.name
  location                      = var.location
  tags                          = local.tags
  input_schema                  = "CloudEventSchemaV1_0"
  local_auth_enabled            = false
  public_network_access_enabled = !local.locked_down
  identity {
    type = "SystemAssigned"
  }
}

# azurerm has no attribute for it.
resource "azapi_update_resource" "grid_tls" {
  type        = "Microsoft.EventGrid/topics@2025-02-15"
  resource_id = azurerm_eventgrid_topic.orders.id
  body        = { properties = { minimumTlsVersionAllowed = "1.2" } }
}

resource "azurerm_eventgrid_event_subscription" "all" {
  for_each              = { for s in local.grid_topic.subscriptions : s.name => s }
  name                  = each.key
  scope                 = azurerm_eventgrid_topic.orders.id
  event_delivery_schema = "CloudEventSchemaV1_0"
  included_event_types  = each.value.includedEventTypes
  delivery_identity {
    type = "SystemAssigned"
  }
  storage_queue_endpoint {
    storage_account_id = azurerm_storage_account.all["events"].id
    queue_name         = azurerm_storage_queue.events.name
  }
  dead_letter_identity {
    type = "SystemAssigned"
  }
  storage_blob_dead_letter_destination {
    storage_account_id          = azurerm_storage_account.all["events"].id
    storage_blob_container_name = azurerm_storage_container.dead_letters.name
  }
  retry_policy {
    max_delivery_attempts = each.value.maxDeliveryAttempts
    event_time_to_live    = each.value.eventTimeToLiveInMinutes
  }
  depends_on = [azurerm_role_assignment.all]
}
