# What flows through the networks, logged by the network watcher of the region. The watcher belongs to
# the subscription, not to this system.

locals {
  flow_logs          = var.flow_logs == null ? local.locked_down : var.flow_logs
  network_watcher_id = var.network_watcher_id == "" ? "/subscriptions/${data.azurerm_client_config.current.subscription_id}/resourceGroups/NetworkWatcherRG/providers/Microsoft.Network/networkWatchers/NetworkWatcher_${var.location}" : var.network_watcher_id
  logged_networks = merge(
    { for spoke in azurerm_virtual_network.spoke : "spoke" => spoke.id },
    { for hub in azurerm_virtual_network.hub : "hub" => hub.id },
  )
}

resource "azurerm_user_assigned_identity" "flow_logs" {
  count               = local.flow_logs ? 1 : 0
  name                = "id-flow-logs-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
}

# Network Watcher comes in as a trusted service, by this identity, and nobody else does; who reads comes
# through the private endpoint.
resource "azurerm_storage_account" "flows" {
  count                            = local.flow_logs ? 1 : 0
  name                             = "stflow${var.environment_name}${local.token}"
  resource_group_name              = azurerm_resource_group.main.name
  location                         = var.location
  tags                             = local.tags
  account_kind                     = "StorageV2"
  account_tier                     = "Standard"
  access_tier                      = "Hot"
  account_replication_type         = local.zone_redundant ? "ZRS" : "LRS"
  allow_nested_items_to_be_public  = false
  cross_tenant_replication_enabled = false
  default_to_oauth_authentication  = true
  https_traffic_only_enabled       = true
  local_user_enabled               = false
  min_tls_version                  = "TLS1_2"
  public_network_access_enabled    = true
  shared_access_key_enabled        = false
  blob_properties {
    delete_retention_policy {
      days = 7
    }
    container_delete_retention_policy {
      days = 7
    }
  }
  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"]
  }
}

# azurerm knows no identity of a flow log, and a key is no choice.
resource "azapi_resource" "flow_log" {
  for_each  = local.flow_logs ? local.logged_networks : {}
  type      = "Microsoft.Network/networkWatchers/flowLogs@2025-05-01"
  name      = "flow-bulkhead-${var.environment_name}-${each.key}"
  parent_id = local.network_watcher_id
  location  = var.location
  tags      = local.tags
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.flow_logs[0].id]
  }
  body = {
    properties = {
      targetResourceId = each.value
      storageId        = azurerm_storage_account.flows[0].id
      enabled          = true
      format           = { type = "JSON", version = 2 }
      retentionPolicy  = { enabled = true, days = local.network.flowLogDays }
    }
  }
  depends_on = [azurerm_role_assignment.all]
}
