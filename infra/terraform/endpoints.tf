# A private endpoint for every service, their names, and the private link scope that telemetry goes
# through; posture lockedDown only.

locals {
  zone_group_id = var.existing_dns_zone_group_id == "" ? azurerm_resource_group.main.id : var.existing_dns_zone_group_id
  own_zones     = local.locked_down && var.existing_dns_zone_group_id == "" ? local.network.zones : {}

  endpoints = local.locked_down ? merge(
    {
      bus              = { id = azurerm_servicebus_namespace.main.id, part = "namespace", zones = ["serviceBus"] }
      store            = { id = azurerm_cosmosdb_account.main.id, part = "Sql", zones = ["cosmos"] }
      grid             = { id = azurerm_eventgrid_topic.orders.id, part = "topic", zones = ["eventGrid"] }
      "host-blob"      = { id = azurerm_storage_account.all["host"].id, part = "blob", zones = ["blob"] }
      "host-queue"     = { id = azurerm_storage_account.all["host"].id, part = "queue", zones = ["queue"] }
      "host-table"     = { id = azurerm_storage_account.all["host"].id, part = "table", zones = ["table"] }
      "payments-queue" = { id = azurerm_storage_account.all["payments"].id, part = "queue", zones = ["queue"] }
      "events-queue"   = { id = azurerm_storage_account.all["events"].id, part = "queue", zones = ["queue"] }
      "events-blob"    = { id = azurerm_storage_account.all["events"].id, part = "blob", zones = ["blob"] }
      monitor          = { id = azurerm_monitor_private_link_scope.main[0].id, part = "azuremonitor", zones = ["monitor", "oms", "ods", "agent", "blob"] }
    },
    { for account in azurerm_storage_account.flows : "flow-blob" => { id = account.id, part = "blob", zones = ["blob"] } },
    { for name in local.app_names : name => { id = azapi_resource.app[name].id, part = "sites", zones = ["sites"] } },
  ) : {}
}

resource "azurerm_private_dns_zone" "all" {
  for_each            = local.own_zones
  name                = each.value
  resource_group_name = azurerm_resource_group.main.name
  tags                = local.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "spoke" {
  for_each             = local.own_zones
  name                 = "link-0"
  private_dns_zone_id  = azurerm_private_dns_zone.all[each.key].id
  virtual_network_id   = azurerm_virtual_network.spoke[0].id
  registration_enabled = false
  tags                 = local.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "hub" {
  for_each             = local.own_zones
  name                 = "link-1"
  private_dns_zone_id  = azurerm_private_dns_zone.all[each.key].id
  virtual_network_id   = local.hub_id
  registration_enabled = false
  tags                 = local.tags
}

resource "azurerm_monitor_private_link_scope" "main" {
  count                 = local.locked_down ? 1 : 0
  name                  = "ampls-bulkhead-${var.environment_name}"
  resource_group_name   = azurerm_resource_group.main.name
  tags                  = local.tags
  ingestion_access_mode = "PrivateOnly"
  query_access_mode     = "PrivateOnly"
}

resource "azurerm_monitor_private_link_scoped_service" "all" {
  for_each = local.locked_down ? {
    workspace = azurerm_log_analytics_workspace.main.id
    insights  = azurerm_application_insights.main.id
  } : {}
  name                = each.key
  resource_group_name = azurerm_resource_group.main.name
  scope_name          = azurerm_monitor_private_link_scope.main[0].name
  linked_resource_id  = each.value
}

resource "azurerm_private_endpoint" "all" {
  for_each            = local.endpoints
  name                = "pe-${each.key}-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  subnet_id           = azurerm_subnet.endpoints[0].id
  private_service_connection {
    name                           = each.key
    is_manual_connection           = false
    private_connection_resource_id = each.value.id
    subresource_names              = [each.value.part]
  }
  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [for zone in each.value.zones : "${local.zone_group_id}/providers/Microsoft.Network/privateDnsZones/${local.network.zones[zone]}"]
  }
  depends_on = [azurerm_private_dns_zone.all, azurerm_monitor_private_link_scoped_service.all]
}
