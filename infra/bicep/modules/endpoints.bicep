// A private endpoint for every service, and the private link scope that telemetry goes through.
param location string
param tags object
param environmentName string
param subnetId string

@description('Id of the resource group that holds the private DNS zones.')
param zoneGroupId string
param workspaceName string
param insightsName string

@description('What gets an endpoint: name, id, part (the group id) and zones, by their names in network.json.')
param targets array

var zones = loadJsonContent('../../network.json').zones
var monitorZones = ['monitor', 'oms', 'ods', 'agent', 'blob']

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource monitorScope 'Microsoft.Insights/privateLinkScopes@2021-09-01' = {
  name: 'ampls-bulkhead-${environmentName}'
  location: 'global'
  tags: tags
  properties: { accessModeSettings: { ingestionAccessMode: 'PrivateOnly', queryAccessMode: 'PrivateOnly' } }
}

resource scopedWorkspace 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = {
  parent: monitorScope
  name: 'workspace'
  properties: { linkedResourceId: workspace.id }
}

resource scopedInsights 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = {
  parent: monitorScope
  name: 'insights'
  properties: { linkedResourceId: insights.id }
}

var all = concat(targets, [{ name: 'monitor', id: monitorScope.id, part: 'azuremonitor', zones: monitorZones }])

resource endpoints 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for target in all: {
    name: 'pe-${target.name}-${environmentName}'
    location: location
    tags: tags
    dependsOn: [scopedWorkspace, scopedInsights]
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        {
          name: target.name
          properties: { privateLinkServiceId: target.id, groupIds: [target.part] }
        }
      ]
    }
  }
]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (target, i) in all: {
    parent: endpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: map(target.zones, zone => {
        name: zone
        properties: { privateDnsZoneId: '${zoneGroupId}/providers/Microsoft.Network/privateDnsZones/${zones[zone]}' }
      })
    }
  }
]
