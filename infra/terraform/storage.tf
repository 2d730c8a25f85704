# One account each for what must not drown or open the other: the hosts with their packages, the
# payments, and what Event Grid delivers. That of the flow logs is in flow-logs.tf.

locals {
  # Event Grid has no way into a private endpoint: it comes in as a trusted service, by its own
  # identity, and nobody else does.
  accounts = {
    host     = { prefix = "sthost", blobs = true, trusted = false }
    payments = { prefix = "stpay", blobs = false, trusted = false }
    events   = { prefix = "stevent", blobs = true, trusted = true }
  }
}

resource "azurerm_storage_account" "all" {
  for_each                         = local.accounts
  name                             = "${each.value.prefix}${var.environment_name}${local.token}"
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
  public_network_access_enabled    = !local.locked_down || each.value.trusted
  shared_access_key_enabled        = false
  dynamic "blob_properties" {
    for_each = each.value.blobs ? [7] : []
    content {
      delete_retention_policy {
        days = blob_properties.value
      }
      container_delete_retention_policy {
        days = blob_properties.value
      }
    }
  }
  network_rules {
    default_action = local.locked_down ? "Deny" : "Allow"
    bypass         = [local.locked_down && each.value.trusted ? "AzureServices" : "None"]
  }
}

resource "azurerm_storage_container" "package" {
  for_each              = local.apps
  name                  = "${local.topology.storage.packageContainerPrefix}${each.key}"
  storage_account_id    = azurerm_storage_account.all["host"].id
  container_access_type = "private"
}

resource "azurerm_storage_queue" "payments" {
  for_each           = toset(local.topology.storage.queues)
  name               = each.key
  storage_account_id = azurerm_storage_account.all["payments"].id
}

resource "azurerm_storage_queue" "events" {
  name               = local.topology.storage.eventQueue
  storage_account_id = azurerm_storage_account.all["events"].id
}

resource "azurerm_storage_container" "dead_letters" {
  name                  = local.topology.storage.eventDeadLetterContainer
  storage_account_id    = azurerm_storage_account.all["events"].id
  container_access_type = "private"
}
