// What flows through the networks, logged by the network watcher of the region. The watcher belongs to
// the subscription, so this goes into its resource group.
param location string
param tags object
param environmentName string
param watcherName string
param networks array
param storageId string
param identityId string

var network = loadJsonContent('../../network.json')

resource watcher 'Microsoft.Network/networkWatchers@2025-05-01' existing = {
  name: watcherName
}

resource flowLogs 'Microsoft.Network/networkWatchers/flowLogs@2025-05-01' = [
  for logged in networks: {
    parent: watcher
    name: 'flow-bulkhead-${environmentName}-${logged.name}'
    location: location
    tags: tags
    identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
    properties: {
      targetResourceId: logged.id
      storageId: storageId
      enabled: true
      format: { type: 'JSON', version: 2 }
      retentionPolicy: { enabled: true, days: network.flowLogDays }
    }
  }
]
