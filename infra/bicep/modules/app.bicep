// One app on its own Flex Consumption plan, under its own identity.
param location string
param tags object

@description('Name in topology.json.')
param app string
param name string
param planName string
param lockedDown bool
param zoneRedundant bool
param functions array
param identityId string
param clientId string
param alwaysReadyInstances int
param maximumInstances int
param instanceMemoryMB int
param subnetId string
param packageContainer string
param settings object

@description('Client id of the API; empty for apps that nobody calls.')
param apiClientId string
param tenantId string
param workspaceId string

var called = !empty(apiClientId)
// Every connection by identity says which one; so does the sign-in of the API, which needs no secret.
var connections = filter(items(settings), setting => endsWith(setting.key, '__credential'))
var clientIds = map(connections, setting => {
  name: replace(setting.key, '__credential', '__clientId')
  value: clientId
})
var own = concat(
  [{ name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'Authorization=AAD;ClientId=${clientId}' }],
  called ? [{ name: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID', value: clientId }] : []
)
var ready = map(functions, f => {
  name: f == 'http' ? 'http' : 'function:${f}'
  instanceCount: alwaysReadyInstances
})

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

resource site 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  // How azd finds the app that a service is deployed to.
  tags: union(tags, { 'azd-service-name': app })
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: lockedDown ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: lockedDown ? subnetId : null
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainer
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'custom', version: '1.0' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReadyInstances > 0 ? ready : []
      }
    }
    siteConfig: {
      appSettings: concat(map(items(settings), setting => { name: setting.key, value: setting.value }), clientIds, own)
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      // Nobody calls an app without an HTTP trigger; its deployment endpoint stays reachable.
      ipSecurityRestrictionsDefaultAction: called ? 'Allow' : 'Deny'
      scmIpSecurityRestrictionsDefaultAction: 'Allow'
      scmIpSecurityRestrictionsUseMain: false
    }
  }
}

resource noFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'ftp'
  properties: { allow: false }
}

resource noPublishingPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: site
  name: 'scm'
  properties: { allow: false }
}

// App Service Authentication: what comes without a token is turned away, and what comes with one
// carries X-MS-CLIENT-PRINCIPAL when it reaches the app. The app asks again on every route.
resource authentication 'Microsoft.Web/sites/config@2024-11-01' = if (called) {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true, runtimeVersion: '~1' }
    globalValidation: {
      requireAuthentication: true
      unauthenticatedClientAction: 'Return401'
      excludedPaths: loadJsonContent('../../network.json').publicPaths
    }
    httpSettings: { requireHttps: true }
    login: { tokenStore: { enabled: false } }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenantId}/v2.0'
          clientId: apiClientId
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        }
        validation: { allowedAudiences: [apiClientId, 'api://${apiClientId}'] }
      }
    }
  }
}

resource planDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: plan
  properties: { workspaceId: workspaceId, metrics: [{ category: 'AllMetrics', enabled: true }] }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: site
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = site.id
output name string = site.name
output hostName string = site.properties.defaultHostName
