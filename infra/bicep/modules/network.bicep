// Hub and spoke: subnets for the apps and the private endpoints, what may pass between them, and
// the one way out.
param location string
param tags object
param environmentName string
param apps array
param hubAddressPrefix string
param spokeAddressPrefix string
param clientsAddressPrefix string
param existingHubId string
param existingRunnerAddressPrefix string
param egress string
param existingFirewallAddress string
param firewallTier string
param zoneRedundant bool

@description('Host names of the bank and of the collector, which the firewall lets through.')
param outsideHosts array
param workspaceId string

var rules = loadJsonContent('../../network.json')
var ownHub = empty(existingHubId)
var hasFirewall = egress == 'firewall'
var hasNat = egress == 'natGateway'
var zones = zoneRedundant ? ['1', '2', '3'] : []
var basic = firewallTier == 'Basic'

// One /27 per app within the first /24 of the spoke, so that one prefix means all apps.
var functionsPrefix = cidrSubnet(spokeAddressPrefix, 24, 0)
var endpointsPrefix = cidrSubnet(spokeAddressPrefix, 26, 4)
var runnerPrefix = ownHub ? cidrSubnet(hubAddressPrefix, 27, 8) : existingRunnerAddressPrefix
var prefixes = {
  '{functions}': functionsPrefix
  '{endpoints}': endpointsPrefix
  '{runner}': runnerPrefix
  '{clients}': clientsAddressPrefix
}
var securityRules = map(items(rules.rules), list => map(list.value, rule => {
  name: rule.name
  properties: {
    description: rule.why
    priority: rule.priority
    direction: rule.direction
    access: rule.access
    protocol: rule.protocol
    sourceAddressPrefix: contains(prefixes, rule.source) ? prefixes[rule.source] : rule.source
    sourcePortRange: '*'
    destinationAddressPrefix: contains(prefixes, rule.destination) ? prefixes[rule.destination] : rule.destination
    destinationPortRanges: rule.ports
  }
}))
var securityNames = map(items(rules.rules), list => list.key)

resource securityGroups 'Microsoft.Network/networkSecurityGroups@2025-05-01' = [
  for (name, i) in securityNames: {
    name: 'nsg-${name}-${environmentName}'
    location: location
    tags: tags
    properties: { securityRules: securityRules[i] }
  }
]

resource egressAddress 'Microsoft.Network/publicIPAddresses@2025-05-01' = if (hasFirewall || hasNat) {
  name: 'pip-egress-${environmentName}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  zones: zones
  properties: { publicIPAllocationMethod: 'Static' }
}

resource managementAddress 'Microsoft.Network/publicIPAddresses@2025-05-01' = if (hasFirewall && basic) {
  name: 'pip-management-${environmentName}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  zones: zones
  properties: { publicIPAllocationMethod: 'Static' }
}

resource nat 'Microsoft.Network/natGateways@2025-05-01' = if (hasNat) {
  name: 'nat-bulkhead-${environmentName}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: egressAddress.id }] }
}

resource routes 'Microsoft.Network/routeTables@2025-05-01' = if (!hasNat) {
  name: 'rt-bulkhead-${environmentName}'
  location: location
  tags: tags
  properties: {
    disableBgpRoutePropagation: true
    routes: [
      {
        name: 'out'
        properties: {
          addressPrefix: '0.0.0.0/0'
          nextHopType: 'VirtualAppliance'
          nextHopIpAddress: hasFirewall ? cidrHost(cidrSubnet(hubAddressPrefix, 26, 0), 3) : existingFirewallAddress
        }
      }
    ]
  }
}

var wayOut = hasNat ? { natGateway: { id: nat.id } } : { routeTable: { id: routes.id } }

resource hub 'Microsoft.Network/virtualNetworks@2025-05-01' = if (ownHub) {
  name: 'vnet-hub-${environmentName}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [hubAddressPrefix] }
    subnets: concat(
      [
        {
          name: 'runner'
          properties: union(wayOut, {
            addressPrefix: runnerPrefix
            defaultOutboundAccess: false
            networkSecurityGroup: { id: securityGroups[indexOf(securityNames, 'runner')].id }
          })
        }
      ],
      hasFirewall ? [{ name: 'AzureFirewallSubnet', properties: { addressPrefix: cidrSubnet(hubAddressPrefix, 26, 0) } }] : [],
      hasFirewall && basic ? [{ name: 'AzureFirewallManagementSubnet', properties: { addressPrefix: cidrSubnet(hubAddressPrefix, 26, 1) } }] : []
    )
  }
}

resource spoke 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-spoke-${environmentName}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [spokeAddressPrefix] }
    subnets: concat(
      [
        {
          name: 'endpoints'
          properties: {
            addressPrefix: endpointsPrefix
            defaultOutboundAccess: false
            // Off by default for private endpoints: without it no rule would apply to them.
            privateEndpointNetworkPolicies: 'Enabled'
            networkSecurityGroup: { id: securityGroups[indexOf(securityNames, 'endpoints')].id }
          }
        }
      ],
      map(apps, (app, i) => {
        name: app
        properties: union(wayOut, {
          addressPrefix: cidrSubnet(spokeAddressPrefix, 27, i)
          defaultOutboundAccess: false
          networkSecurityGroup: { id: securityGroups[indexOf(securityNames, 'functions')].id }
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
        })
      })
    )
  }
}

var hubId = ownHub ? hub.id : existingHubId

resource toHub 'Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2025-05-01' = {
  parent: spoke
  name: 'spoke-to-hub'
  properties: {
    remoteVirtualNetwork: { id: hubId }
    allowVirtualNetworkAccess: true
    allowForwardedTraffic: true
    allowGatewayTransit: false
    useRemoteGateways: false
  }
}

resource toSpoke 'Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2025-05-01' = if (ownHub) {
  parent: hub
  name: 'hub-to-spoke'
  properties: {
    remoteVirtualNetwork: { id: spoke.id }
    allowVirtualNetworkAccess: true
    allowForwardedTraffic: true
    allowGatewayTransit: false
    useRemoteGateways: false
  }
}

resource policy 'Microsoft.Network/firewallPolicies@2025-05-01' = if (hasFirewall) {
  name: 'fwp-bulkhead-${environmentName}'
  location: location
  tags: tags
  properties: { sku: { tier: firewallTier }, threatIntelMode: basic ? 'Alert' : 'Deny' }
}

resource allowList 'Microsoft.Network/firewallPolicies/ruleCollectionGroups@2025-05-01' = if (hasFirewall) {
  parent: policy
  name: 'allow-list'
  properties: {
    priority: 100
    ruleCollections: [
      {
        ruleCollectionType: 'FirewallPolicyFilterRuleCollection'
        name: 'names'
        priority: 100
        action: { type: 'Allow' }
        rules: [
          {
            ruleType: 'ApplicationRule'
            name: 'functions'
            sourceAddresses: [functionsPrefix]
            targetFqdns: concat(rules.egress.functions, outsideHosts)
            protocols: [{ protocolType: 'Https', port: 443 }]
          }
          {
            ruleType: 'ApplicationRule'
            name: 'runner'
            sourceAddresses: [runnerPrefix]
            targetFqdns: rules.egress.runner
            protocols: [{ protocolType: 'Https', port: 443 }]
          }
        ]
      }
    ]
  }
}

resource firewall 'Microsoft.Network/azureFirewalls@2025-05-01' = if (hasFirewall) {
  name: 'fw-bulkhead-${environmentName}'
  location: location
  tags: tags
  zones: zones
  dependsOn: [allowList]
  properties: {
    sku: { name: 'AZFW_VNet', tier: firewallTier }
    firewallPolicy: { id: policy.id }
    ipConfigurations: [
      {
        name: 'out'
        properties: {
          subnet: { id: '${hub.id}/subnets/AzureFirewallSubnet' }
          publicIPAddress: { id: egressAddress.id }
        }
      }
    ]
    managementIpConfiguration: basic
      ? {
          name: 'management'
          properties: {
            subnet: { id: '${hub.id}/subnets/AzureFirewallManagementSubnet' }
            publicIPAddress: { id: managementAddress.id }
          }
        }
      : null
  }
}

resource securityDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = [
  for (name, i) in securityNames: {
    name: 'to-workspace'
    scope: securityGroups[i]
    properties: { workspaceId: workspaceId, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
  }
]

resource hubDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (ownHub) {
  name: 'to-workspace'
  scope: hub
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource spokeDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: spoke
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource addressDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (hasFirewall || hasNat) {
  name: 'to-workspace'
  scope: egressAddress
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource managementAddressDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (hasFirewall && basic) {
  name: 'to-workspace'
  scope: managementAddress
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource firewallDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (hasFirewall) {
  name: 'to-workspace'
  scope: firewall
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output hubId string = hubId
output spokeId string = spoke.id
output endpointSubnetId string = '${spoke.id}/subnets/endpoints'
output functionSubnetIds array = map(apps, app => '${spoke.id}/subnets/${app}')
output firewallId string = hasFirewall ? firewall.id : ''
