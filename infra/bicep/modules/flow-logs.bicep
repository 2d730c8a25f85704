// What flows through the networks, logged by the network watcher of the region. The watcher belongs to
// the subscription, so this goes into its resource group.
param location string
param tags object
param environmentName string
param watcherName string
param networks array
param storageId string
param identityId string
param retentionDays int

resource watcher 'Microsoft.Network/networkWatchers@2025-05-01' existing = {
  name: watcherName
}

resource flowLogs 'Microsoft.Network/networkWatchers/flowLogs@2025-05-01' = [
  for network in networks: {
    parent: watcher
    name: 'flow-bulkhead-${environmentName}-${network.name}'
    location: location
    tags: tags
    identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
    properties: {
      targetResourceId: network.id
      storageId: storageId
      enabled: true
      format: { type: 'JSON', version: 2 }
      retentionPolicy: { enabled: true, days: retentionDays }
    }
  }
]
