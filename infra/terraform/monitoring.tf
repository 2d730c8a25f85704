# Where logs and metrics go, who is told, and the questions that are worth keeping.

resource "azurerm_log_analytics_workspace" "main" {
  name                           = "log-bulkhead-${var.environment_name}"
  resource_group_name            = azurerm_resource_group.main.name
  location                       = var.location
  tags                           = local.tags
  sku                            = "PerGB2018"
  retention_in_days              = var.log_retention_days
  local_authentication_enabled   = false
  internet_ingestion_access_type = local.locked_down ? "Disabled" : "Enabled"
  internet_query_access_type     = local.locked_down ? "Disabled" : "Enabled"
}

resource "azurerm_application_insights" "main" {
  name                         = "appi-bulkhead-${var.environment_name}"
  resource_group_name          = azurerm_resource_group.main.name
  location                     = var.location
  tags                         = local.tags
  application_type             = "web"
  workspace_id                 = azurerm_log_analytics_workspace.main.id
  local_authentication_enabled = false
  internet_ingestion_enabled   = !local.locked_down
  internet_query_enabled       = !local.locked_down
}

resource "azurerm_monitor_action_group" "operators" {
  name                = "ag-bulkhead-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = "global"
  short_name          = "bulkhead"
  tags                = local.tags
  email_receiver {
    name                    = "operators"
    email_address           = var.alert_email
    use_common_alert_schema = true
  }
}

resource "azurerm_log_analytics_saved_search" "all" {
  for_each = {
    "order-by-correlation-id" = "One order by correlation id"
    "stage-latency"           = "Stage latency"
    "dead-letters-by-reason"  = "Dead letters by reason"
  }
  name                       = each.key
  log_analytics_workspace_id = azurerm_log_analytics_workspace.main.id
  category                   = "Bulkhead"
  display_name               = each.value
  query                      = file("${path.module}/../kql/${each.key}.kql")
}

resource "azurerm_application_insights_workbook" "main" {
  name                = uuidv5("url", "${azurerm_resource_group.main.id}/bulkhead")
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  display_name        = "Bulkhead ${var.environment_name}"
  data_json           = file("${path.module}/../workbook.json")
  source_id           = lower(azurerm_log_analytics_workspace.main.id)
}

# Everything that can say something says it to the workspace.
locals {
  all_logs = [{ group = "allLogs", category = null }]
  diagnosed = merge(
    {
      workspace = { id = azurerm_log_analytics_workspace.main.id, logs = [{ group = "audit", category = null }], metrics = ["AllMetrics"], dedicated = false }
      bus       = { id = azurerm_servicebus_namespace.main.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = true }
      store = {
        id        = azurerm_cosmosdb_account.main.id
        logs      = [for category in ["DataPlaneRequests", "PartitionKeyRUConsumption", "ControlPlaneRequests"] : { group = null, category = category }]
        metrics   = ["Requests"]
        dedicated = true
      }
      grid             = { id = azurerm_eventgrid_topic.orders.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false }
      host             = { id = azurerm_storage_account.all["host"].id, logs = [], metrics = ["Transaction"], dedicated = false }
      "host-blob"      = { id = "${azurerm_storage_account.all["host"].id}/blobServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false }
      "host-table"     = { id = "${azurerm_storage_account.all["host"].id}/tableServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false }
      payments         = { id = azurerm_storage_account.all["payments"].id, logs = [], metrics = ["Transaction"], dedicated = false }
      "payments-queue" = { id = "${azurerm_storage_account.all["payments"].id}/queueServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false }
      events           = { id = azurerm_storage_account.all["events"].id, logs = [], metrics = ["Transaction"], dedicated = false }
      "events-queue"   = { id = "${azurerm_storage_account.all["events"].id}/queueServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false }
      "events-blob"    = { id = "${azurerm_storage_account.all["events"].id}/blobServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false }
    },
    { for account in azurerm_storage_account.flows : "flows" => { id = account.id, logs = [], metrics = ["Transaction"], dedicated = false } },
    { for account in azurerm_storage_account.flows : "flows-blob" => { id = "${account.id}/blobServices/default", logs = local.all_logs, metrics = ["Transaction"], dedicated = false } },
    { for name, plan in azurerm_service_plan.app : "plan-${name}" => { id = plan.id, logs = [], metrics = ["AllMetrics"], dedicated = false } },
    { for name, site in azapi_resource.app : "app-${name}" => { id = site.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false } },
    { for name, group in azurerm_network_security_group.all : "nsg-${name}" => { id = group.id, logs = local.all_logs, metrics = [], dedicated = false } },
    { for hub in azurerm_virtual_network.hub : "hub" => { id = hub.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false } },
    { for spoke in azurerm_virtual_network.spoke : "spoke" => { id = spoke.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false } },
    { for address in azurerm_public_ip.egress : "egress" => { id = address.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false } },
    { for address in azurerm_public_ip.management : "management" => { id = address.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = false } },
    { for firewall in azurerm_firewall.main : "firewall" => { id = firewall.id, logs = local.all_logs, metrics = ["AllMetrics"], dedicated = true } },
  )
}

resource "azurerm_monitor_diagnostic_setting" "all" {
  for_each                       = local.diagnosed
  name                           = "to-workspace"
  target_resource_id             = each.value.id
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.main.id
  log_analytics_destination_type = each.value.dedicated ? "Dedicated" : null
  dynamic "enabled_log" {
    for_each = each.value.logs
    content {
      category_group = enabled_log.value.group
      category       = enabled_log.value.category
    }
  }
  dynamic "enabled_metric" {
    for_each = each.value.metrics
    content {
      category = enabled_metric.value
    }
  }
}
