// The private DNS zones, known to hub and spoke.
param tags object

@description('Ids of the networks that resolve names in them.')
param networks array

var zoneNames = map(items(loadJsonContent('../../network.json').zones), zone => zone.value)
var links = flatten(map(zoneNames, (zone, i) => map(networks, (network, j) => { zone: i, network: network, name: 'link-${j}' })))

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in zoneNames: {
    name: zone
    location: 'global'
    tags: tags
  }
]

resource zoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for link in links: {
    parent: zones[link.zone]
    name: link.name
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: link.network } }
  }
]
