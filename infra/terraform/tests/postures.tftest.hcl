# Both postures with mocked providers: `terraform test` after `terraform init -backend=false`.

mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = {
      subscription_id = "11111111-2222-3333-4444-555555555555"
      tenant_id       = "99999999-8888-7777-6666-555555555555"
    }
  }
}

mock_provider "azapi" {}

variables {
  environment_name = "test"
  location         = "westeurope"
  bank_url         = "https://bank.example/"
  api_client_id    = "00000000-0000-0000-0000-00000000a91d"
  alert_email      = "operators@example.com"
  budget_amount    = 50
  budget_start     = "2026-12-01"
}

run "default_posture" {
  command = plan

  assert {
    condition     = azurerm_servicebus_namespace.main.sku == "Standard" && !azurerm_servicebus_namespace.main.local_auth_enabled
    error_message = "Posture default is Service Bus Standard, by identity."
  }
  assert {
    condition     = alltrue([for a in concat(values(azurerm_storage_account.all), azurerm_storage_account.flows) : !a.shared_access_key_enabled])
    error_message = "No storage account takes a shared key."
  }
  assert {
    condition     = length(azurerm_servicebus_subscription.consumer) == 3 && length(azurerm_servicebus_subscription_rule.only) == 3
    error_message = "One subscription per consumer, with one rule."
  }
  assert {
    condition     = length(azapi_resource.app) == 6 && length(azurerm_service_plan.app) == 6
    error_message = "Six apps, each on a plan of its own."
  }
  assert {
    condition     = length(azurerm_virtual_network.spoke) == 0 && length(azurerm_private_endpoint.all) == 0
    error_message = "Posture default buys no network."
  }
  assert {
    condition     = length(azurerm_role_assignment.all) == length([for a in local.roles.assignments : a if a.scope != "flowStorage"])
    error_message = "Every row of roles.json is assigned, but for that of the flow logs."
  }
}

run "locked_down_posture" {
  command = plan

  variables {
    posture = "lockedDown"
  }

  assert {
    condition     = azurerm_servicebus_namespace.main.sku == "Premium" && !azurerm_servicebus_namespace.main.public_network_access_enabled
    error_message = "Posture lockedDown is Service Bus Premium without public access."
  }
  assert {
    condition     = !azurerm_cosmosdb_account.main.public_network_access_enabled && !azurerm_eventgrid_topic.orders.public_network_access_enabled
    error_message = "Store and topic have no public access."
  }
  assert {
    condition     = length(azurerm_private_endpoint.all) == 17
    error_message = "An endpoint for every service and every app."
  }
  assert {
    condition     = length(azapi_resource.flow_log) == 2 && length(azurerm_storage_account.flows) == 1
    error_message = "Flows of hub and spoke are logged, into an account of their own."
  }
  assert {
    condition     = alltrue([for s in azurerm_subnet.app : s.delegation[0].service_delegation[0].name == "Microsoft.App/environments"])
    error_message = "Every app has a delegated subnet."
  }
  assert {
    condition     = length(azurerm_firewall.main) == 1 && length(azurerm_route_table.main) == 1
    error_message = "What leaves goes through the firewall."
  }
  assert {
    condition     = alltrue([for p in azurerm_service_plan.app : p.zone_balancing_enabled])
    error_message = "Plans span zones."
  }
}

run "cheaper_egress" {
  command = plan

  variables {
    posture = "lockedDown"
    egress  = "natGateway"
  }

  assert {
    condition     = length(azurerm_firewall.main) == 0 && length(azurerm_nat_gateway.main) == 1
    error_message = "A NAT gateway in place of the firewall."
  }
}

run "contradictions_are_refused" {
  command = plan

  variables {
    zone_redundant  = true
    existing_hub_id = "/subscriptions/77777777-2222-3333-4444-555555555555/resourceGroups/rg-hub/providers/Microsoft.Network/virtualNetworks/vnet-hub"
    bank_url        = "http://bank.example/"
  }

  expect_failures = [
    var.zone_redundant,
    var.existing_hub_id,
    var.existing_runner_address_prefix,
    var.egress,
    var.bank_url,
  ]
}
