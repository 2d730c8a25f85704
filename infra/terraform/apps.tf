# The six apps, each on its own Flex Consumption plan, under its own identity, with the settings that
# its functions read and no other.

locals {
  login_endpoint = "https://login.microsoftonline.com/"

  every_app = {
    AzureWebJobsStorage__blobServiceUri   = azurerm_storage_account.all["host"].primary_blob_endpoint
    AzureWebJobsStorage__queueServiceUri  = azurerm_storage_account.all["host"].primary_queue_endpoint
    AzureWebJobsStorage__tableServiceUri  = azurerm_storage_account.all["host"].primary_table_endpoint
    AzureWebJobsStorage__credential       = "managedidentity"
    APPLICATIONINSIGHTS_CONNECTION_STRING = azurerm_application_insights.main.connection_string
    OrdersBus__fullyQualifiedNamespace    = "${azurerm_servicebus_namespace.main.name}.servicebus.windows.net"
    OrdersBus__credential                 = "managedidentity"
    OrdersStore__accountEndpoint          = azurerm_cosmosdb_account.main.endpoint
    OrdersStore__credential               = "managedidentity"
    FAULTS_ALLOWED                        = "false"
    LOG_FORMAT                            = "json"
    RUST_LOG                              = "info,azure_data_cosmos_driver=warn"
    OTEL_EXPORTER_OTLP_ENDPOINT           = var.otlp_endpoint
  }
  payments_queue = {
    PaymentsQueue__queueServiceUri = azurerm_storage_account.all["payments"].primary_queue_endpoint
    PaymentsQueue__credential      = "managedidentity"
  }
  bank = { BANK_URL = var.bank_url }
  of_app = {
    "order-api" = merge(local.payments_queue, {
      AUTH_MODE                  = "easy-auth"
      AUTH_ISSUER                = "${local.login_endpoint}${local.tenant_id}/v2.0"
      AUTH_AUDIENCE              = var.api_client_id
      AUTH_JWKS_URL              = "${local.login_endpoint}${local.tenant_id}/discovery/v2.0/keys"
      AUTH_CUSTOMER_CLAIM        = var.customer_claim
      CUSTOMER_ORDERS_PER_SECOND = tostring(var.customer_orders_per_second)
    })
    inventory = {}
    billing   = local.payments_queue
    payments  = merge(local.payments_queue, local.bank)
    notification = {
      OrdersGrid__topicEndpointUri = azurerm_eventgrid_topic.orders.endpoint
      OrdersGrid__credential       = "managedidentity"
    }
    # Gateway mode: 443 is the only port that a private endpoint needs to pass. Alerts look at single log
    # lines of this app, which the host must not leave out.
    outbox = merge(local.payments_queue, local.bank, {
      AzureFunctionsJobHost__extensions__cosmosDB__connectionMode                      = "Gateway"
      AzureFunctionsJobHost__logging__applicationInsights__samplingSettings__isEnabled = "false"
    })
  }
  shared_settings = { for name, own in local.of_app : name => merge(local.every_app, own) }
  # Every connection by identity says which one; so does the sign-in of the API, which needs no secret.
  settings = {
    for name, shared in local.shared_settings : name => merge(
      shared,
      { for key, value in shared : replace(key, "__credential", "__clientId") => azurerm_user_assigned_identity.app[name].client_id if endswith(key, "__credential") },
      { APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "Authorization=AAD;ClientId=${azurerm_user_assigned_identity.app[name].client_id}" },
      name == "order-api" ? { OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID = azurerm_user_assigned_identity.app[name].client_id } : {},
    )
  }
}

resource "azurerm_service_plan" "app" {
  for_each               = local.apps
  name                   = "plan-${each.key}-${var.environment_name}"
  resource_group_name    = azurerm_resource_group.main.name
  location               = var.location
  tags                   = local.tags
  os_type                = "Linux"
  sku_name               = "FC1"
  zone_balancing_enabled = local.zone_redundant
}

resource "azapi_resource" "app" {
  for_each  = local.apps
  type      = "Microsoft.Web/sites@2024-11-01"
  name      = "${each.key}-${var.environment_name}-${local.token}"
  parent_id = azurerm_resource_group.main.id
  location  = var.location
  # How azd finds the app that a service is deployed to.
  tags = merge(local.tags, { "azd-service-name" = each.key })
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.app[each.key].id]
  }
  body = {
    kind = "functionapp,linux"
    properties = {
      serverFarmId              = azurerm_service_plan.app[each.key].id
      httpsOnly                 = true
      publicNetworkAccess       = local.locked_down ? "Disabled" : "Enabled"
      virtualNetworkSubnetId    = local.locked_down ? azurerm_subnet.app[each.key].id : null
      keyVaultReferenceIdentity = azurerm_user_assigned_identity.app[each.key].id
      functionAppConfig = {
        deployment = {
          storage = {
            type  = "blobContainer"
            value = "${azurerm_storage_account.all["host"].primary_blob_endpoint}${azurerm_storage_container.package[each.key].name}"
            authentication = {
              type                           = "UserAssignedIdentity"
              userAssignedIdentityResourceId = azurerm_user_assigned_identity.app[each.key].id
            }
          }
        }
        runtime = { name = "custom", version = "1.0" }
        scaleAndConcurrency = {
          instanceMemoryMB     = var.instance_memory_mb
          maximumInstanceCount = var.maximum_instances
          alwaysReady = [
            for function in local.always_ready_instances > 0 ? each.value.functions : [] : {
              name          = function == "http" ? "http" : "function:${function}"
              instanceCount = local.always_ready_instances
            }
          ]
        }
      }
      siteConfig = {
        appSettings            = [for key, value in local.settings[each.key] : { name = key, value = value }]
        ftpsState              = "Disabled"
        http20Enabled          = true
        minTlsVersion          = "1.2"
        scmMinTlsVersion       = "1.2"
        remoteDebuggingEnabled = false
        # Nobody calls an app without an HTTP trigger; its deployment endpoint stays reachable.
        ipSecurityRestrictionsDefaultAction    = each.key == "order-api" ? "Allow" : "Deny"
        scmIpSecurityRestrictionsDefaultAction = "Allow"
        scmIpSecurityRestrictionsUseMain       = false
      }
    }
  }
  ignore_null_property   = true
  response_export_values = ["properties.defaultHostName"]
  depends_on             = [azurerm_role_assignment.all, azurerm_cosmosdb_sql_role_assignment.data, azurerm_cosmosdb_sql_role_assignment.metadata]
}

resource "azapi_update_resource" "no_ftp" {
  for_each  = local.apps
  type      = "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01"
  name      = "ftp"
  parent_id = azapi_resource.app[each.key].id
  body      = { properties = { allow = false } }
}

resource "azapi_update_resource" "no_publishing_password" {
  for_each  = local.apps
  type      = "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01"
  name      = "scm"
  parent_id = azapi_resource.app[each.key].id
  body      = { properties = { allow = false } }
}

# App Service Authentication: what comes without a token is turned away, and what comes with one
# carries X-MS-CLIENT-PRINCIPAL when it reaches the app. The app asks again on every route.
resource "azapi_update_resource" "authentication" {
  type      = "Microsoft.Web/sites/config@2024-11-01"
  name      = "authsettingsV2"
  parent_id = azapi_resource.app["order-api"].id
  body = {
    properties = {
      platform = { enabled = true, runtimeVersion = "~1" }
      globalValidation = {
        requireAuthentication       = true
        unauthenticatedClientAction = "Return401"
        excludedPaths               = local.network.publicPaths
      }
      httpSettings = { requireHttps = true }
      login        = { tokenStore = { enabled = false } }
      identityProviders = {
        azureActiveDirectory = {
          enabled = true
          registration = {
            openIdIssuer            = "${local.login_endpoint}${local.tenant_id}/v2.0"
            clientId                = var.api_client_id
            clientSecretSettingName = "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID"
          }
          validation = { allowedAudiences = [var.api_client_id, "api://${var.api_client_id}"] }
        }
      }
    }
  }
}
