// The store: account, database, containers, and who may read and write which container.
param location string
param tags object
param name string
param lockedDown bool
param zoneRedundant bool
param maxThroughput int

@description('The database with its containers, as topology.json has it.')
param database object
param roles object
param principals array
param operatorPrincipalId string
param workspaceId string

var principalOf = toObject(principals, p => p.app, p => p.id)
var seeds = empty(operatorPrincipalId) ? [] : [{ principal: 'operator', role: 'cosmosDataContributor', container: 'stock' }]
var assignments = concat(roles.cosmosAssignments, seeds)

resource account 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' = {
  name: name
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: lockedDown ? 'Disabled' : 'Enabled'
    capabilities: lockedDown ? [] : [{ name: 'EnableServerless' }]
    consistencyPolicy: { defaultConsistencyLevel: 'Session' }
    enableMultipleWriteLocations: false
    enableAutomaticFailover: false
    locations: [{ locationName: location, failoverPriority: 0, isZoneRedundant: zoneRedundant }]
    backupPolicy: { type: 'Continuous', continuousModeProperties: { tier: 'Continuous7Days' } }
  }
}

resource store 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2025-04-15' = {
  parent: account
  name: database.id
  properties: {
    resource: { id: database.id }
    options: lockedDown ? { autoscaleSettings: { maxThroughput: maxThroughput } } : {}
  }
}

// The account makes one such change at a time.
@batchSize(1)
resource containers 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15' = [
  for container in database.containers: {
    parent: store
    name: container.id
    properties: {
      resource: union(
        { id: container.id, partitionKey: container.partitionKey },
        contains(container, 'defaultTtl') ? { defaultTtl: container.defaultTtl } : {}
      )
    }
  }
]

// Who may know that database and containers are there: the client asks before it reads.
resource metadataReader 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2025-04-15' = {
  parent: account
  name: guid(account.id, 'metadata-reader')
  properties: {
    roleName: 'Bulkhead metadata reader'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [{ dataActions: ['Microsoft.DocumentDB/databaseAccounts/readMetadata'] }]
  }
}

@batchSize(1)
resource metadataRoles 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = [
  for p in principals: {
    parent: account
    name: guid(account.id, p.app, 'metadata-reader')
    dependsOn: [store]
    properties: {
      principalId: p.id
      roleDefinitionId: metadataReader.id
      scope: '${account.id}/dbs/${database.id}'
    }
  }
]

@batchSize(1)
resource dataRoles 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = [
  for a in assignments: {
    parent: account
    name: guid(account.id, a.principal, a.role, a.container)
    dependsOn: [containers, metadataRoles]
    properties: {
      principalId: a.principal == 'operator' ? operatorPrincipalId : principalOf[a.principal]
      roleDefinitionId: '${account.id}/sqlRoleDefinitions/${roles.cosmosDefinitions[a.role].id}'
      scope: '${account.id}/dbs/${database.id}/colls/${a.container}'
    }
  }
]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: account
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      { category: 'DataPlaneRequests', enabled: true }
      { category: 'PartitionKeyRUConsumption', enabled: true }
      { category: 'ControlPlaneRequests', enabled: true }
    ]
    metrics: [{ category: 'Requests', enabled: true }]
  }
}

output id string = account.id
output endpoint string = account.properties.documentEndpoint
