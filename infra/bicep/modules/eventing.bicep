// What tells the world outside: a topic, and a queue that its events are delivered to. A queue and
// no webhook, because Event Grid cannot reach into a private network.
param location string
param tags object
param name string
param lockedDown bool

@description('The topic with its subscriptions, as topology.json has it.')
param topic object
param queue string
param deadLetterContainer string
param eventsAccount string
param roles object
param principals array
param workspaceId string

var principalOf = toObject(principals, p => p.app, p => p.id)
var senders = filter(roles.assignments, a => a.scope == 'eventGridTopic')
var queueGrants = filter(roles.assignments, a => a.scope == 'eventQueue')
var deadLetterGrants = filter(roles.assignments, a => a.scope == 'eventDeadLetters')

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: eventsAccount
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource destination 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = {
  parent: queues
  name: queue
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource deadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: deadLetterContainer
}

resource grid 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: lockedDown ? 'Disabled' : 'Enabled'
  }
}

resource senderRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in senders: {
    scope: grid
    name: guid(grid.id, a.principal, a.role)
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource deliveryRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in queueGrants: {
    scope: destination
    name: guid(destination.id, a.principal, a.role)
    properties: {
      principalId: grid.identity.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource deadLetterRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in deadLetterGrants: {
    scope: deadLetters
    name: guid(deadLetters.id, a.principal, a.role)
    properties: {
      principalId: grid.identity.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource subscriptions 'Microsoft.EventGrid/topics/eventSubscriptions@2025-02-15' = [
  for subscription in topic.subscriptions: {
    parent: grid
    name: subscription.name
    dependsOn: [deliveryRoles, deadLetterRoles]
    properties: {
      eventDeliverySchema: 'CloudEventSchemaV1_0'
      deliveryWithResourceIdentity: {
        identity: { type: 'SystemAssigned' }
        destination: {
          endpointType: 'StorageQueue'
          properties: { resourceId: account.id, queueName: queue }
        }
      }
      deadLetterWithResourceIdentity: {
        identity: { type: 'SystemAssigned' }
        deadLetterDestination: {
          endpointType: 'StorageBlob'
          properties: { resourceId: account.id, blobContainerName: deadLetterContainer }
        }
      }
      filter: { includedEventTypes: subscription.includedEventTypes }
      retryPolicy: {
        maxDeliveryAttempts: subscription.maxDeliveryAttempts
        eventTimeToLiveInMinutes: subscription.eventTimeToLiveInMinutes
      }
    }
  }
]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: grid
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = grid.id
output endpoint string = grid.properties.endpoint
