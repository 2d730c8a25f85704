# The store: account, database, containers.

resource "azurerm_cosmosdb_account" "main" {
  name                               = "cosmos-bulkhead-${var.environment_name}-${local.token}"
  resource_group_name                = azurerm_resource_group.main.name
  location                           = var.location
  tags                               = local.tags
  kind                               = "GlobalDocumentDB"
  offer_type                         = "Standard"
  local_authentication_enabled       = false
  access_key_metadata_writes_enabled = false
  minimal_tls_version                = "Tls12"
  public_network_access_enabled      = !local.locked_down
  multiple_write_locations_enabled   = false
  automatic_failover_enabled         = false
  dynamic "capabilities" {
    for_each = local.locked_down ? [] : ["EnableServerless"]
    content {
      name = capabilities.value
    }
  }
  consistency_policy {
    consistency_level = "Session"
  }
  geo_location {
    location          = var.location
    failover_priority = 0
    zone_redundant    = local.zone_redundant
  }
  backup {
    type = "Continuous"
    tier = "Continuous7Days"
  }
}

resource "azurerm_cosmosdb_sql_database" "main" {
  name                = local.database.id
  resource_group_name = azurerm_resource_group.main.name
  account_name        = azurerm_cosmosdb_account.main.name
  dynamic "autoscale_settings" {
    for_each = local.locked_down ? [var.store_max_throughput] : []
    content {
      max_throughput = autoscale_settings.value
    }
  }
}

resource "azurerm_cosmosdb_sql_container" "all" {
  for_each              = { for c in local.database.containers : c.id => c }
  name                  = each.key
  resource_group_name   = azurerm_resource_group.main.name
  account_name          = azurerm_cosmosdb_account.main.name
  database_name         = azurerm_cosmosdb_sql_database.main.name
  partition_key_paths   = each.value.partitionKey.paths
  partition_key_kind    = each.value.partitionKey.kind
  partition_key_version = each.value.partitionKey.version
  default_ttl           = lookup(each.value, "defaultTtl", null)
}
