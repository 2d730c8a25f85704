// One account each for what must not drown or open the other: the hosts with their packages, the
// payments, what Event Grid delivers, and the flow logs of the network.
param location string
param tags object
param suffix string
param lockedDown bool
param zoneRedundant bool
param flowLogs bool
param apps array

@description('Queues and containers, as topology.json has them.')
param storage object
param roles object
param principals array
param workspaceId string

var principalOf = toObject(principals, p => p.app, p => p.id)
var hostGrants = filter(roles.assignments, a => a.scope == 'hostStorage')
var queueGrants = filter(roles.assignments, a => a.scope == 'queue')
var flowGrants = flowLogs ? filter(roles.assignments, a => a.scope == 'flowStorage') : []

var common = {
  accessTier: 'Hot'
  allowBlobPublicAccess: false
  allowCrossTenantReplication: false
  allowSharedKeyAccess: false
  defaultToOAuthAuthentication: true
  isLocalUserEnabled: false
  minimumTlsVersion: 'TLS1_2'
  supportsHttpsTrafficOnly: true
}
// Event Grid and Network Watcher have no way into a private endpoint: they come in as trusted services,
// by identity, and nobody else does.
var closed = { publicNetworkAccess: 'Disabled', networkAcls: { defaultAction: 'Deny', bypass: 'None' } }
var trusted = { publicNetworkAccess: 'Enabled', networkAcls: { defaultAction: 'Deny', bypass: 'AzureServices' } }
var open = { publicNetworkAccess: 'Enabled', networkAcls: { defaultAction: 'Allow', bypass: 'None' } }
var keepDeleted = { enabled: true, days: 7 }
var metrics = [{ category: 'Transaction', enabled: true }]
var logs = [{ categoryGroup: 'allLogs', enabled: true }]

resource host 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'sthost${suffix}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: union(common, lockedDown ? closed : open)
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: host
  name: 'default'
  properties: { deleteRetentionPolicy: keepDeleted, containerDeleteRetentionPolicy: keepDeleted }
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for app in apps: {
    parent: hostBlobs
    name: '${storage.packageContainerPrefix}${app}'
    properties: { publicAccess: 'None' }
  }
]

resource payments 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'stpay${suffix}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: union(common, lockedDown ? closed : open)
}

resource paymentsQueues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: payments
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for queue in storage.queues: {
    parent: paymentsQueues
    name: queue
  }
]

resource events 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'stevent${suffix}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: union(common, lockedDown ? trusted : open)
}

resource eventQueues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: events
  name: 'default'
}

resource eventQueue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = {
  parent: eventQueues
  name: storage.eventQueue
}

resource eventBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: events
  name: 'default'
  properties: { deleteRetentionPolicy: keepDeleted, containerDeleteRetentionPolicy: keepDeleted }
}

resource eventDeadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: eventBlobs
  name: storage.eventDeadLetterContainer
  properties: { publicAccess: 'None' }
}

resource flows 'Microsoft.Storage/storageAccounts@2025-06-01' = if (flowLogs) {
  name: 'stflow${suffix}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: union(common, trusted)
}

resource flowBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = if (flowLogs) {
  parent: flows
  name: 'default'
  properties: { deleteRetentionPolicy: keepDeleted, containerDeleteRetentionPolicy: keepDeleted }
}

resource flowRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in flowGrants: {
    scope: flows
    name: guid(flows.id, a.principal, a.role)
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource hostRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in hostGrants: {
    scope: host
    name: guid(host.id, a.principal, a.role)
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource granted 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = [
  for a in queueGrants: {
    parent: paymentsQueues
    name: a.entity
  }
]

resource queueRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (a, i) in queueGrants: {
    scope: granted[i]
    name: guid(granted[i].id, a.principal, a.role)
    dependsOn: [queues]
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource hostTables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' existing = {
  parent: host
  name: 'default'
}

resource hostDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: host
  properties: { workspaceId: workspaceId, metrics: metrics }
}

resource hostBlobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: hostBlobs
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

resource hostTableDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: hostTables
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

resource paymentsDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: payments
  properties: { workspaceId: workspaceId, metrics: metrics }
}

resource paymentsQueueDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: paymentsQueues
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

resource eventsDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: events
  properties: { workspaceId: workspaceId, metrics: metrics }
}

resource eventQueueDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: eventQueues
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

resource eventBlobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: eventBlobs
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

resource flowDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (flowLogs) {
  name: 'to-workspace'
  scope: flows
  properties: { workspaceId: workspaceId, metrics: metrics }
}

resource flowBlobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (flowLogs) {
  name: 'to-workspace'
  scope: flowBlobs
  properties: { workspaceId: workspaceId, logs: logs, metrics: metrics }
}

output hostId string = host.id
output hostName string = host.name
output paymentsId string = payments.id
output paymentsName string = payments.name
output eventsId string = events.id
output eventsName string = events.name
output flowsId string = flowLogs ? flows.id : ''
