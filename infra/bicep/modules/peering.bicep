// One direction of a peering, in the resource group of the network that it starts from.
param from string
param to string
param name string

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' existing = {
  name: from
}

resource peering 'Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2025-05-01' = {
  parent: network
  name: name
  properties: {
    remoteVirtualNetwork: { id: to }
    allowVirtualNetworkAccess: true
    allowForwardedTraffic: true
    allowGatewayTransit: false
    useRemoteGateways: false
  }
}
