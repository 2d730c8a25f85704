# The whole system in one resource group, in one of two postures; the twin of ../bicep/main.bicep.
# Names and limits come from ../topology.json, roles from ../roles.json, alerts from
# ../alerts.json, network rules from ../network.json.

data "azurerm_client_config" "current" {}

locals {
  topology = jsondecode(file("${path.module}/../topology.json"))
  roles    = jsondecode(file("${path.module}/../roles.json"))
  alerts   = jsondecode(file("${path.module}/../alerts.json"))
  network  = jsondecode(file("${path.module}/../network.json"))

  apps        = { for app in local.topology.apps : app.name => app }
  app_names   = [for app in local.topology.apps : app.name]
  topic       = local.topology.serviceBus.topics[0]
  database    = local.topology.cosmos.databases[0]
  grid_topic  = local.topology.eventGrid.topics[0]
  locked_down = var.posture == "lockedDown"
  own_hub     = local.locked_down && var.existing_hub_id == ""
  tenant_id   = var.tenant_id == "" ? data.azurerm_client_config.current.tenant_id : var.tenant_id

  zone_redundant         = var.zone_redundant == null ? local.locked_down : var.zone_redundant
  always_ready_instances = var.always_ready_instances == null ? (local.locked_down ? 2 : 0) : var.always_ready_instances

  token = substr(sha1("${data.azurerm_client_config.current.subscription_id} ${var.environment_name} ${var.location}"), 0, 6)
  # azd finds the resource group by its tag.
  tags = merge(var.tags, { system = "bulkhead", environment = var.environment_name, "azd-env-name" = var.environment_name })
}

resource "azurerm_resource_group" "main" {
  name     = "rg-bulkhead-${var.environment_name}"
  location = var.location
  tags     = local.tags
}

# One identity per app: what one app may do says nothing about another.
resource "azurerm_user_assigned_identity" "app" {
  for_each            = local.apps
  name                = "id-${each.key}-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
}
