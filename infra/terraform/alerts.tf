# Every alert of ../alerts.json that the posture has something to measure for, and the budget.

locals {
  alert_targets = {
    serviceBus    = azurerm_servicebus_namespace.main.id
    cosmos        = azurerm_cosmosdb_account.main.id
    eventGrid     = azurerm_eventgrid_topic.orders.id
    paymentsQueue = "${azurerm_storage_account.all["payments"].id}/queueServices/default"
    api           = azapi_resource.app["order-api"].id
    firewall      = local.has_firewall ? azurerm_firewall.main[0].id : ""
  }
  metric_alerts = {
    for a in local.alerts.metric : a.name => a
    if a.posture == "any" || (a.posture == "lockedDown" && local.locked_down) || (a.posture == "firewall" && local.has_firewall)
  }
}

resource "azurerm_monitor_metric_alert" "all" {
  for_each                 = local.metric_alerts
  name                     = "alert-${each.key}-${var.environment_name}"
  resource_group_name      = azurerm_resource_group.main.name
  tags                     = local.tags
  description              = "${each.value.description} Runbook: ${var.runbook_base_url}/${each.value.runbook}.md"
  enabled                  = true
  severity                 = each.value.severity
  auto_mitigate            = true
  scopes                   = [local.alert_targets[each.value.target]]
  frequency                = each.value.evaluationFrequency
  window_size              = each.value.windowSize
  target_resource_type     = each.value.metricNamespace
  target_resource_location = var.location
  criteria {
    metric_namespace = each.value.metricNamespace
    metric_name      = each.value.metricName
    aggregation      = each.value.aggregation
    operator         = each.value.operator
    threshold        = each.value.threshold
    dynamic "dimension" {
      for_each = each.value.dimensions
      content {
        name     = dimension.value.name
        operator = dimension.value.operator
        values   = dimension.value.values
      }
    }
  }
  action {
    action_group_id = azurerm_monitor_action_group.operators.id
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "all" {
  for_each                = { for a in local.alerts.log : a.name => a }
  name                    = "alert-${each.key}-${var.environment_name}"
  resource_group_name     = azurerm_resource_group.main.name
  location                = var.location
  tags                    = local.tags
  display_name            = each.key
  description             = "${each.value.description} Runbook: ${var.runbook_base_url}/${each.value.runbook}.md"
  enabled                 = true
  severity                = each.value.severity
  auto_mitigation_enabled = true
  scopes                  = [azurerm_log_analytics_workspace.main.id]
  evaluation_frequency    = each.value.evaluationFrequency
  window_duration         = each.value.windowSize
  criteria {
    query                   = join("\n", concat(local.alerts.prelude, each.value.query))
    time_aggregation_method = each.value.aggregation
    metric_measure_column   = each.value.column
    operator                = each.value.operator
    threshold               = each.value.threshold
    dynamic "dimension" {
      for_each = each.value.dimensions
      content {
        name     = dimension.value.name
        operator = dimension.value.operator
        values   = dimension.value.values
      }
    }
    failing_periods {
      number_of_evaluation_periods             = 1
      minimum_failing_periods_to_trigger_alert = 1
    }
  }
  action {
    action_groups     = [azurerm_monitor_action_group.operators.id]
    custom_properties = { runbook = "${var.runbook_base_url}/${each.value.runbook}.md" }
  }
}

resource "azurerm_consumption_budget_resource_group" "main" {
  name              = "budget-bulkhead-${var.environment_name}"
  resource_group_id = azurerm_resource_group.main.id
  amount            = var.budget_amount
  time_grain        = "Monthly"
  time_period {
    start_date = "${var.budget_start}T00:00:00Z"
  }
  dynamic "notification" {
    for_each = [
      { threshold = 50, kind = "Actual" },
      { threshold = 80, kind = "Actual" },
      { threshold = 100, kind = "Actual" },
      { threshold = 100, kind = "Forecasted" },
    ]
    content {
      enabled        = true
      operator       = "GreaterThanOrEqualTo"
      threshold      = notification.value.threshold
      threshold_type = notification.value.kind
      contact_emails = [var.alert_email]
      contact_groups = [azurerm_monitor_action_group.operators.id]
    }
  }
}
