# Three accounts, because three things must not drown or open each other: the hosts with their
# packages, the payments, and what Event Grid delivers.

locals {
  replication = local.zone_redundant ? "ZRS" : "LRS"
}

resource "azurerm_storage_account" "host" {
  name                             = "sthost${var.environment_name}${local.token}"
  resource_group_name              = azurerm_resource_group.main.name
  location                         = var.location
  tags                             = local.tags
  account_kind                     = "StorageV2"
  account_tier                     = "Standard"
  access_tier                      = "Hot"
  account_replication_type         = local.replication
  allow_nested_items_to_be_public  = false
  cross_tenant_replication_enabled = false
  default_to_oauth_authentication  = true
  https_traffic_only_enabled       = true
  local_user_enabled               = false
  min_tls_version                  = "TLS1_2"
  public_network_access_enabled    = !local.locked_down
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
    default_action = local.locked_down ? "Deny" : "Allow"
    bypass         = ["None"]
  }
}

resource "azurerm_storage_container" "package" {
  for_each              = local.apps
  name                  = "${local.topology.storage.packageContainerPrefix}${each.key}"
  storage_account_id    = azurerm_storage_account.host.id
  container_access_type = "private"
}

resource "azurerm_storage_account" "payments" {
  name                             = "stpay${var.environment_name}${local.token}"
  resource_group_name              = azurerm_resource_group.main.name
  location                         = var.location
  tags                             = local.tags
  account_kind                     = "StorageV2"
  account_tier                     = "Standard"
  access_tier                      = "Hot"
  account_replication_type         = local.replication
  allow_nested_items_to_be_public  = false
  cross_tenant_replication_enabled = false
  default_to_oauth_authentication  = true
  https_traffic_only_enabled       = true
  local_user_enabled               = false
  min_tls_version                  = "TLS1_2"
  public_network_access_enabled    = !local.locked_down
  shared_access_key_enabled        = false
  network_rules {
    default_action = local.locked_down ? "Deny" : "Allow"
    bypass         = ["None"]
  }
}

resource "azurerm_storage_queue" "payments" {
  for_each           = toset(local.topology.storage.queues)
  name               = each.key
  storage_account_id = azurerm_storage_account.payments.id
}

# Event Grid has no way into a private endpoint: it comes in as a trusted service, by its own
# identity, and nobody else does.
resource "azurerm_storage_account" "events" {
  name                             = "stevent${var.environment_name}${local.token}"
  resource_group_name              = azurerm_resource_group.main.name
  location                         = var.location
  tags                             = local.tags
  account_kind                     = "StorageV2"
  account_tier                     = "Standard"
  access_tier                      = "Hot"
  account_replication_type         = local.replication
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
    default_action = local.locked_down ? "Deny" : "Allow"
    bypass         = [local.locked_down ? "AzureServices" : "None"]
  }
}

resource "azurerm_storage_queue" "events" {
  name               = local.topology.storage.eventQueue
  storage_account_id = azurerm_storage_account.events.id
}

resource "azurerm_storage_container" "dead_letters" {
  name                  = local.topology.storage.eventDeadLetterContainer
  storage_account_id    = azurerm_storage_account.events.id
  container_access_type = "private"
}
