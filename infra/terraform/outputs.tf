output "resource_group_name" {
  description = "The resource group."
  value       = azurerm_resource_group.main.name
}

output "api_url" {
  description = "Where the API is."
  value       = "https://${azapi_resource.app["order-api"].output.properties.defaultHostName}"
}

output "apps" {
  description = "App by app: name in topology.json, name in Azure, package container."
  value = [
    for name in local.app_names : {
      app              = name
      id               = azapi_resource.app[name].id
      name             = azapi_resource.app[name].name
      packageContainer = azurerm_storage_container.package[name].name
    }
  ]
}

output "package_account" {
  description = "Account that holds the packages."
  value       = azurerm_storage_account.all["host"].name
}

output "store_endpoint" {
  description = "Endpoint of the store, for the seed."
  value       = azurerm_cosmosdb_account.main.endpoint
}

output "workspace_id" {
  description = "Where logs are."
  value       = azurerm_log_analytics_workspace.main.id
}

output "bus_host" {
  description = "Host of Service Bus."
  value       = local.every_app.OrdersBus__fullyQualifiedNamespace
}

output "grid_endpoint" {
  description = "Where events for the outside are published."
  value       = azurerm_eventgrid_topic.orders.endpoint
}

output "payments_account" {
  description = "Account that holds the queues of payments."
  value       = azurerm_storage_account.all["payments"].name
}

output "events_account" {
  description = "Account that Event Grid delivers into."
  value       = azurerm_storage_account.all["events"].name
}

output "bank_url" {
  description = "The bank, as the apps call it."
  value       = var.bank_url
}
