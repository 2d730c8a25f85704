// The topic, one subscription per consumer with one rule, and who may send and receive.
param location string
param tags object
param name string
param lockedDown bool
param messagingUnits int

@description('The topic with its subscriptions, as topology.json has it.')
param topic object
param roles object

@description('Role of a consumer on its own subscription.')
param consumerRole string
param principals array
param workspaceId string

var principalOf = toObject(principals, p => p.app, p => p.id)
var senders = filter(roles.assignments, a => a.scope == 'topic')
var receivers = filter(roles.assignments, a => a.scope == 'subscription')

// It spans zones by itself where the region has them.
resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: lockedDown ? { name: 'Premium', tier: 'Premium', capacity: messagingUnits } : { name: 'Standard', tier: 'Standard' }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: lockedDown ? 'Disabled' : 'Enabled'
    premiumMessagingPartitions: lockedDown ? 1 : null
  }
}

resource orders 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = {
  parent: namespace
  name: topic.name
  properties: {
    requiresDuplicateDetection: topic.requiresDuplicateDetection
    duplicateDetectionHistoryTimeWindow: topic.duplicateDetectionHistoryTimeWindow
    defaultMessageTimeToLive: topic.defaultMessageTimeToLive
    maxSizeInMegabytes: topic.maxSizeInMegabytes
  }
}

// The namespace makes one such change at a time.
@batchSize(1)
resource subscriptions 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = [
  for subscription in topic.subscriptions: {
    parent: orders
    name: subscription.name
    properties: {
      lockDuration: subscription.lockDuration
      maxDeliveryCount: subscription.maxDeliveryCount
      defaultMessageTimeToLive: subscription.defaultMessageTimeToLive
      deadLetteringOnMessageExpiration: subscription.deadLetteringOnMessageExpiration
      deadLetteringOnFilterEvaluationExceptions: true
      requiresSession: false
    }
  }
]

@batchSize(1)
resource rules 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = [
  for (subscription, i) in topic.subscriptions: {
    parent: subscriptions[i]
    name: subscription.rules[0].name
    properties: {
      filterType: 'SqlFilter'
      sqlFilter: { sqlExpression: subscription.rules[0].sqlExpression }
    }
  }
]

// Azure gives every new subscription a rule that lets everything in. A template cannot delete it,
// but it can make it let nothing in. Where rules have no actions, one match is one copy.
@batchSize(1)
resource nothing 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = [
  for (subscription, i) in topic.subscriptions: {
    parent: subscriptions[i]
    name: '$Default'
    dependsOn: [rules]
    properties: {
      filterType: 'SqlFilter'
      sqlFilter: { sqlExpression: '1=0' }
    }
  }
]

resource senderRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in senders: {
    scope: orders
    name: guid(orders.id, a.principal, a.role)
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource received 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' existing = [
  for a in receivers: {
    parent: orders
    name: a.entity
  }
]

resource receiverRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (a, i) in receivers: {
    scope: received[i]
    name: guid(received[i].id, a.principal, a.role)
    dependsOn: [subscriptions]
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roles.definitions[a.role == 'serviceBusConsumer' ? consumerRole : a.role].id
      )
    }
  }
]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = namespace.id
output host string = '${namespace.name}.servicebus.windows.net'
