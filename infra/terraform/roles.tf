# Who may do what, row by row from ../roles.json; each as narrow as the entity.

locals {
  principals = merge(
    { for name, identity in azurerm_user_assigned_identity.app : name => identity.principal_id },
    { for identity in azurerm_user_assigned_identity.flow_logs : "flow-logs" => identity.principal_id },
    { "event-grid" = azurerm_eventgrid_topic.orders.identity[0].principal_id },
  )
  consumer_role = var.consumer_service_bus_role == "owner" ? "serviceBusDataOwner" : "serviceBusDataReceiver"
  scopes = merge(
    { "topic/${local.topic.name}" = azurerm_servicebus_topic.orders.id },
    { for name, subscription in azurerm_servicebus_subscription.consumer : "subscription/${name}" => subscription.id },
    { for name, queue in azurerm_storage_queue.payments : "queue/${name}" => queue.id },
    { "eventGridTopic/${local.grid_topic.name}" = azurerm_eventgrid_topic.orders.id },
    { "hostStorage/host" = azurerm_storage_account.all["host"].id },
    { "applicationInsights/bulkhead" = azurerm_application_insights.main.id },
    { "eventQueue/${local.topology.storage.eventQueue}" = azurerm_storage_queue.events.id },
    { "eventDeadLetters/${local.topology.storage.eventDeadLetterContainer}" = azurerm_storage_container.dead_letters.id },
    { for account in azurerm_storage_account.flows : "flowStorage/flows" => account.id },
  )
  store_roles = concat(
    local.roles.cosmosAssignments,
    var.operator_principal_id == "" ? [] : [{ principal = "operator", role = "cosmosDataContributor", container = "stock" }],
  )
}

resource "azurerm_role_assignment" "all" {
  for_each           = { for a in local.roles.assignments : "${a.principal}/${a.role}/${a.entity}" => a if local.flow_logs || a.scope != "flowStorage" }
  scope              = local.scopes["${each.value.scope}/${each.value.entity}"]
  principal_id       = local.principals[each.value.principal]
  principal_type     = "ServicePrincipal"
  role_definition_id = "/subscriptions/${data.azurerm_client_config.current.subscription_id}/providers/Microsoft.Authorization/roleDefinitions/${local.roles.definitions[each.value.role == "serviceBusConsumer" ? local.consumer_role : each.value.role].id}"
}

# Who may know that database and containers are there: the client asks before it reads.
resource "azurerm_cosmosdb_sql_role_definition" "metadata_reader" {
  name                = "Bulkhead metadata reader"
  resource_group_name = azurerm_resource_group.main.name
  account_name        = azurerm_cosmosdb_account.main.name
  type                = "CustomRole"
  assignable_scopes   = [azurerm_cosmosdb_account.main.id]
  permissions {
    data_actions = ["Microsoft.DocumentDB/databaseAccounts/readMetadata"]
  }
}

resource "azurerm_cosmosdb_sql_role_assignment" "metadata" {
  for_each            = local.apps
  resource_group_name = azurerm_resource_group.main.name
  account_name        = azurerm_cosmosdb_account.main.name
  role_definition_id  = azurerm_cosmosdb_sql_role_definition.metadata_reader.id
  principal_id        = local.principals[each.key]
  scope               = "${azurerm_cosmosdb_account.main.id}/dbs/${azurerm_cosmosdb_sql_database.main.name}"
}

resource "azurerm_cosmosdb_sql_role_assignment" "data" {
  for_each            = { for a in local.store_roles : "${a.principal}/${a.role}/${a.container}" => a }
  resource_group_name = azurerm_resource_group.main.name
  account_name        = azurerm_cosmosdb_account.main.name
  role_definition_id  = "${azurerm_cosmosdb_account.main.id}/sqlRoleDefinitions/${local.roles.cosmosDefinitions[each.value.role].id}"
  principal_id        = each.value.principal == "operator" ? var.operator_principal_id : local.principals[each.value.principal]
  scope               = "${azurerm_cosmosdb_account.main.id}/dbs/${azurerm_cosmosdb_sql_database.main.name}/colls/${azurerm_cosmosdb_sql_container.all[each.value.container].name}"
}
