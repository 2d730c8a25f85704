// The six apps. Each gets the settings that its functions read, and no other.
param location string
param tags object
param environmentName string
param token string
param lockedDown bool
param zoneRedundant bool

@description('Apps with their functions, as topology.json has them.')
param apps array
param identities array
param alwaysReadyInstances int
param maximumInstances int
param instanceMemoryMB int
param subnetIds array
param packageContainerPrefix string
param hostAccount string
param paymentsAccount string
param insightsName string
param busHost string
param storeEndpoint string
param gridEndpoint string
param bankUrl string
param apiClientId string
param tenantId string
param customerOrdersPerSecond int
param customerClaim string
param otlpEndpoint string
param workspaceId string

resource host 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostAccount
}

resource payments 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: paymentsAccount
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

var everyApp = {
  AzureWebJobsStorage__blobServiceUri: host.properties.primaryEndpoints.blob
  AzureWebJobsStorage__queueServiceUri: host.properties.primaryEndpoints.queue
  AzureWebJobsStorage__tableServiceUri: host.properties.primaryEndpoints.table
  AzureWebJobsStorage__credential: 'managedidentity'
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  OrdersBus__fullyQualifiedNamespace: busHost
  OrdersBus__credential: 'managedidentity'
  OrdersStore__accountEndpoint: storeEndpoint
  OrdersStore__credential: 'managedidentity'
  FAULTS_ALLOWED: 'false'
  LOG_FORMAT: 'json'
  RUST_LOG: 'info,azure_data_cosmos_driver=warn'
  OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint
}
var paymentsQueue = {
  PaymentsQueue__queueServiceUri: payments.properties.primaryEndpoints.queue
  PaymentsQueue__credential: 'managedidentity'
}
var bank = { BANK_URL: bankUrl }
var ofApp = {
  'order-api': union(paymentsQueue, {
    AUTH_MODE: 'easy-auth'
    AUTH_ISSUER: '${environment().authentication.loginEndpoint}${tenantId}/v2.0'
    AUTH_AUDIENCE: apiClientId
    AUTH_JWKS_URL: '${environment().authentication.loginEndpoint}${tenantId}/discovery/v2.0/keys'
    AUTH_CUSTOMER_CLAIM: customerClaim
    CUSTOMER_ORDERS_PER_SECOND: string(customerOrdersPerSecond)
  })
  inventory: {}
  billing: paymentsQueue
  payments: union(paymentsQueue, bank)
  notification: {
    OrdersGrid__topicEndpointUri: gridEndpoint
    OrdersGrid__credential: 'managedidentity'
  }
  // Gateway mode: 443 is the only port that a private endpoint needs to pass. Alerts look at single log
  // lines of this app, which the host must not leave out.
  outbox: union(paymentsQueue, bank, {
    AzureFunctionsJobHost__extensions__cosmosDB__connectionMode: 'Gateway'
    AzureFunctionsJobHost__logging__applicationInsights__samplingSettings__isEnabled: 'false'
  })
}

module app 'app.bicep' = [
  for (item, i) in apps: {
    params: {
      location: location
      tags: tags
      app: item.name
      name: '${item.name}-${environmentName}-${token}'
      planName: 'plan-${item.name}-${environmentName}'
      lockedDown: lockedDown
      zoneRedundant: zoneRedundant
      functions: item.functions
      identityId: identities[i].id
      clientId: identities[i].clientId
      alwaysReadyInstances: alwaysReadyInstances
      maximumInstances: maximumInstances
      instanceMemoryMB: instanceMemoryMB
      subnetId: lockedDown ? subnetIds[i] : ''
      packageContainer: '${host.properties.primaryEndpoints.blob}${packageContainerPrefix}${item.name}'
      settings: union(everyApp, ofApp[item.name])
      apiClientId: item.name == 'order-api' ? apiClientId : ''
      tenantId: tenantId
      workspaceId: workspaceId
    }
  }
]

output sites array = [
  for (item, i) in apps: {
    app: item.name
    id: app[i].outputs.id
    name: app[i].outputs.name
    packageContainer: '${packageContainerPrefix}${item.name}'
  }
]
output apiId string = app[0].outputs.id
output apiUrl string = 'https://${app[0].outputs.hostName}'
