# Hub and spoke of posture lockedDown: subnets for the apps and the private endpoints, what may pass
# between them, and the one way out.

locals {
  has_firewall = local.locked_down && var.egress == "firewall"
  has_nat      = local.locked_down && var.egress == "natGateway"
  has_routes   = local.locked_down && !local.has_nat
  basic        = var.firewall_tier == "Basic"
  zones        = local.zone_redundant ? ["1", "2", "3"] : []

  # One /27 per app within the first /24 of the spoke, so that one prefix means all apps.
  functions_prefix = cidrsubnet(var.spoke_address_prefix, 2, 0)
  endpoints_prefix = cidrsubnet(var.spoke_address_prefix, 4, 4)
  firewall_prefix  = cidrsubnet(var.hub_address_prefix, 4, 0)
  runner_prefix    = local.own_hub ? cidrsubnet(var.hub_address_prefix, 5, 8) : var.existing_runner_address_prefix
  clients_prefix   = var.clients_address_prefix == "" ? var.hub_address_prefix : var.clients_address_prefix
  prefixes = {
    "{functions}" = local.functions_prefix
    "{endpoints}" = local.endpoints_prefix
    "{runner}"    = local.runner_prefix
    "{clients}"   = local.clients_prefix
  }
  # The hosts of the bank and of the collector, which the firewall lets through.
  outside_hosts = [for url in compact([var.bank_url, var.otlp_endpoint]) : split(":", split("/", replace(url, "https://", ""))[0])[0]]
  hub_id        = var.existing_hub_id == "" ? one(azurerm_virtual_network.hub[*].id) : var.existing_hub_id
}

resource "azurerm_network_security_group" "all" {
  for_each            = local.locked_down ? local.network.rules : {}
  name                = "nsg-${each.key}-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  security_rule = [
    for rule in each.value : {
      name                                       = rule.name
      description                                = rule.why
      priority                                   = rule.priority
      direction                                  = rule.direction
      access                                     = rule.access
      protocol                                   = rule.protocol
      source_address_prefix                      = lookup(local.prefixes, rule.source, rule.source)
      source_address_prefixes                    = []
      source_application_security_group_ids      = []
      source_port_range                          = "*"
      source_port_ranges                         = []
      destination_address_prefix                 = lookup(local.prefixes, rule.destination, rule.destination)
      destination_address_prefixes               = []
      destination_application_security_group_ids = []
      destination_port_range                     = ""
      destination_port_ranges                    = rule.ports
    }
  ]
}

resource "azurerm_public_ip" "egress" {
  count               = local.has_firewall || local.has_nat ? 1 : 0
  name                = "pip-egress-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = local.zones
}

resource "azurerm_public_ip" "management" {
  count               = local.has_firewall && local.basic ? 1 : 0
  name                = "pip-management-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = local.zones
}

resource "azurerm_nat_gateway" "main" {
  count               = local.has_nat ? 1 : 0
  name                = "nat-bulkhead-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  sku_name            = "Standard"
}

resource "azurerm_nat_gateway_public_ip_association" "main" {
  count                = local.has_nat ? 1 : 0
  nat_gateway_id       = azurerm_nat_gateway.main[0].id
  public_ip_address_id = azurerm_public_ip.egress[0].id
}

resource "azurerm_route_table" "main" {
  count                         = local.has_routes ? 1 : 0
  name                          = "rt-bulkhead-${var.environment_name}"
  resource_group_name           = azurerm_resource_group.main.name
  location                      = var.location
  tags                          = local.tags
  bgp_route_propagation_enabled = false
  route = [
    {
      name                   = "out"
      address_prefix         = "0.0.0.0/0"
      next_hop_type          = "VirtualAppliance"
      next_hop_in_ip_address = local.has_firewall ? cidrhost(local.firewall_prefix, 4) : var.existing_firewall_address
    }
  ]
}

resource "azurerm_virtual_network" "hub" {
  count               = local.own_hub ? 1 : 0
  name                = "vnet-hub-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  address_space       = [var.hub_address_prefix]
}

resource "azurerm_subnet" "runner" {
  count                           = local.own_hub ? 1 : 0
  name                            = "runner"
  resource_group_name             = azurerm_resource_group.main.name
  virtual_network_name            = azurerm_virtual_network.hub[0].name
  address_prefixes                = [local.runner_prefix]
  default_outbound_access_enabled = false
}

resource "azurerm_subnet" "firewall" {
  count                = local.has_firewall ? 1 : 0
  name                 = "AzureFirewallSubnet"
  resource_group_name  = azurerm_resource_group.main.name
  virtual_network_name = azurerm_virtual_network.hub[0].name
  address_prefixes     = [local.firewall_prefix]
}

resource "azurerm_subnet" "firewall_management" {
  count                = local.has_firewall && local.basic ? 1 : 0
  name                 = "AzureFirewallManagementSubnet"
  resource_group_name  = azurerm_resource_group.main.name
  virtual_network_name = azurerm_virtual_network.hub[0].name
  address_prefixes     = [cidrsubnet(var.hub_address_prefix, 4, 1)]
}

resource "azurerm_virtual_network" "spoke" {
  count               = local.locked_down ? 1 : 0
  name                = "vnet-spoke-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  address_space       = [var.spoke_address_prefix]
}

resource "azurerm_subnet" "endpoints" {
  count                           = local.locked_down ? 1 : 0
  name                            = "endpoints"
  resource_group_name             = azurerm_resource_group.main.name
  virtual_network_name            = azurerm_virtual_network.spoke[0].name
  address_prefixes                = [local.endpoints_prefix]
  default_outbound_access_enabled = false
  # Off by default for private endpoints: without it no rule would apply to them.
  private_endpoint_network_policies = "Enabled"
}

resource "azurerm_subnet" "app" {
  for_each                        = { for i, name in local.app_names : name => i if local.locked_down }
  name                            = each.key
  resource_group_name             = azurerm_resource_group.main.name
  virtual_network_name            = azurerm_virtual_network.spoke[0].name
  address_prefixes                = [cidrsubnet(var.spoke_address_prefix, 5, each.value)]
  default_outbound_access_enabled = false
  delegation {
    name = "flex"
    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

locals {
  # Subnets by the rules that hold for them.
  guarded = merge(
    { for name, subnet in azurerm_subnet.app : name => { id = subnet.id, rules = "functions", out = true } },
    { for subnet in azurerm_subnet.endpoints : "endpoints" => { id = subnet.id, rules = "endpoints", out = false } },
    { for subnet in azurerm_subnet.runner : "runner" => { id = subnet.id, rules = "runner", out = true } },
  )
}

resource "azurerm_subnet_network_security_group_association" "all" {
  for_each                  = local.guarded
  subnet_id                 = each.value.id
  network_security_group_id = azurerm_network_security_group.all[each.value.rules].id
}

resource "azurerm_subnet_route_table_association" "all" {
  for_each       = { for name, subnet in local.guarded : name => subnet if subnet.out && local.has_routes }
  subnet_id      = each.value.id
  route_table_id = azurerm_route_table.main[0].id
}

resource "azurerm_subnet_nat_gateway_association" "all" {
  for_each       = { for name, subnet in local.guarded : name => subnet if subnet.out && local.has_nat }
  subnet_id      = each.value.id
  nat_gateway_id = azurerm_nat_gateway.main[0].id
}

resource "azurerm_virtual_network_peering" "to_hub" {
  count                        = local.locked_down ? 1 : 0
  name                         = "spoke-to-hub"
  resource_group_name          = azurerm_resource_group.main.name
  virtual_network_name         = azurerm_virtual_network.spoke[0].name
  remote_virtual_network_id    = local.hub_id
  allow_virtual_network_access = true
  allow_forwarded_traffic      = true
  allow_gateway_transit        = false
  use_remote_gateways          = false
}

resource "azurerm_virtual_network_peering" "to_spoke" {
  count                        = local.own_hub ? 1 : 0
  name                         = "hub-to-spoke"
  resource_group_name          = azurerm_resource_group.main.name
  virtual_network_name         = azurerm_virtual_network.hub[0].name
  remote_virtual_network_id    = azurerm_virtual_network.spoke[0].id
  allow_virtual_network_access = true
  allow_forwarded_traffic      = true
  allow_gateway_transit        = false
  use_remote_gateways          = false
}

# The way back from a hub that is somebody else's, whatever subscription it is in.
resource "azapi_resource" "hub_peering" {
  count     = local.locked_down && !local.own_hub ? 1 : 0
  type      = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2025-05-01"
  name      = "hub-to-bulkhead-${var.environment_name}"
  parent_id = var.existing_hub_id
  body = {
    properties = {
      remoteVirtualNetwork      = { id = azurerm_virtual_network.spoke[0].id }
      allowVirtualNetworkAccess = true
      allowForwardedTraffic     = true
      allowGatewayTransit       = false
      useRemoteGateways         = false
    }
  }
}

resource "azurerm_firewall_policy" "main" {
  count                    = local.has_firewall ? 1 : 0
  name                     = "fwp-bulkhead-${var.environment_name}"
  resource_group_name      = azurerm_resource_group.main.name
  location                 = var.location
  tags                     = local.tags
  sku                      = var.firewall_tier
  threat_intelligence_mode = local.basic ? "Alert" : "Deny"
}

resource "azurerm_firewall_policy_rule_collection_group" "allow_list" {
  count              = local.has_firewall ? 1 : 0
  name               = "allow-list"
  firewall_policy_id = azurerm_firewall_policy.main[0].id
  priority           = 100
  application_rule_collection {
    name     = "names"
    priority = 100
    action   = "Allow"
    rule {
      name              = "functions"
      source_addresses  = [local.functions_prefix]
      destination_fqdns = concat(local.network.egress.functions, local.outside_hosts)
      protocols {
        type = "Https"
        port = 443
      }
    }
    rule {
      name              = "runner"
      source_addresses  = [local.runner_prefix]
      destination_fqdns = local.network.egress.runner
      protocols {
        type = "Https"
        port = 443
      }
    }
  }
}

resource "azurerm_firewall" "main" {
  count               = local.has_firewall ? 1 : 0
  name                = "fw-bulkhead-${var.environment_name}"
  resource_group_name = azurerm_resource_group.main.name
  location            = var.location
  tags                = local.tags
  sku_name            = "AZFW_VNet"
  sku_tier            = var.firewall_tier
  firewall_policy_id  = azurerm_firewall_policy.main[0].id
  zones               = local.zones
  ip_configuration {
    name                 = "out"
    subnet_id            = azurerm_subnet.firewall[0].id
    public_ip_address_id = azurerm_public_ip.egress[0].id
  }
  dynamic "management_ip_configuration" {
    for_each = local.basic ? [1] : []
    content {
      name                 = "management"
      subnet_id            = azurerm_subnet.firewall_management[0].id
      public_ip_address_id = azurerm_public_ip.management[0].id
    }
  }
  depends_on = [azurerm_firewall_policy_rule_collection_group.allow_list]
}
