// The whole system in one resource group, in one of two postures: `default` has public endpoints
// that let in identities alone; `lockedDown` has no public endpoint at all.
// Names and limits come from ../topology.json, roles from ../roles.json, alerts from
// ../alerts.json, network rules from ../network.json; the Terraform twin reads the same files.
targetScope = 'subscription'

@description('Which environment this is, such as dev or prod: part of every name. Lower-case letters and digits.')
@minLength(2)
@maxLength(8)
param environmentName string

@description('Azure region. It needs Flex Consumption, and three zones for posture lockedDown.')
param location string

@description('default: public endpoints, identities only. lockedDown: private endpoints only.')
@allowed(['default', 'lockedDown'])
param posture string = 'default'

@description('Address of the bank, https. Apps payments and outbox call it.')
param bankUrl string

@description('Client id of the Entra app registration of the API; its app roles are orders.write, orders.read, ops.read, ops.replay.')
param apiClientId string

@description('Tenant whose users and applications may call the API.')
param tenantId string = tenant().tenantId

@description('Who is told of alerts and of the budget.')
param alertEmail string

@description('Where the runbooks can be read; alerts link to <this>/<runbook>.md.')
param runbookBaseUrl string = 'docs/runbooks'

@description('Budget of a month, in the currency of the subscription.')
@minValue(1)
param budgetAmount int

@description('First day of the month in which the budget begins, such as 2026-12-01. It cannot be changed later.')
param budgetStart string

@description('Tags of every resource, besides system and environment.')
param tags object = {}

@description('What consumers may do with their own subscription. receiver: the least; the platform scales by the age of messages. owner: it scales by their number.')
@allowed(['receiver', 'owner'])
param consumerServiceBusRole string = 'receiver'

@description('Instances per app that are always running, for cold starts. Zone redundancy needs two.')
@minValue(0)
@maxValue(20)
param alwaysReadyInstances int = posture == 'lockedDown' ? 2 : 0

@description('Instances per app at most.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 512

@description('Whether what can span zones does. Not in posture default: serverless Cosmos DB and Service Bus Standard take no such wish.')
param zoneRedundant bool = posture == 'lockedDown'

@description('Messaging units of Service Bus Premium; posture lockedDown only.')
@allowed([1, 2, 4, 8, 16])
param messagingUnits int = 1

@description('Request units per second at most, shared by the containers; posture lockedDown only.')
@minValue(1000)
param storeMaxThroughput int = 1000

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Orders per second of one customer; 0 for no limit.')
@minValue(0)
param customerOrdersPerSecond int = 200

@description('Claim that holds the customer id; empty for oid, else sub.')
param customerClaim string = ''

@description('Base address of an OpenTelemetry collector that takes OTLP over HTTP; empty for none: the apps then send to Application Insights by themselves.')
param otlpEndpoint string = ''

@description('Object id of a person or group that may write the stock (the seed); empty for nobody.')
param operatorPrincipalId string = ''

@description('Address space of the hub that is made, a /22; posture lockedDown without an existing hub.')
param hubAddressPrefix string = '10.0.0.0/22'

@description('Address space of the spoke, a /22; posture lockedDown.')
param spokeAddressPrefix string = '10.1.0.0/22'

@description('Who may call the API in posture lockedDown.')
param clientsAddressPrefix string = hubAddressPrefix

@description('Id of a hub network that is there already; empty to make one.')
param existingHubId string = ''

@description('Subnet of the deployment runner in the existing hub.')
param existingRunnerAddressPrefix string = ''

@description('Id of the resource group that holds the private DNS zones already; empty to make them.')
param existingDnsZoneGroupId string = ''

@description('How traffic leaves in posture lockedDown. firewall: an Azure Firewall with an allow-list. hub: the firewall of the existing hub. natGateway: cheaper, with ports and service tags but no names.')
@allowed(['firewall', 'hub', 'natGateway'])
param egress string = 'firewall'

@description('Private address of the firewall of the existing hub; egress hub only.')
param existingFirewallAddress string = ''

@description('Tier of the firewall that is made.')
@allowed(['Basic', 'Standard'])
param firewallTier string = 'Standard'

@description('Whether what flows through the networks is logged, into an account of its own; posture lockedDown only. Needs the network watcher of the region.')
param flowLogs bool = posture == 'lockedDown'

@description('Id of the network watcher of the region; empty for the one that Azure makes.')
param networkWatcherId string = ''

var topology = loadJsonContent('../topology.json')
var roles = loadJsonContent('../roles.json')
var lockedDown = posture == 'lockedDown'
var ownHub = lockedDown && empty(existingHubId)
var hasFirewall = lockedDown && egress == 'firewall'
var bankAuthority = split(replace(bankUrl, 'https://', ''), '/')[0]
var otlpAuthority = split(replace(otlpEndpoint, 'https://', ''), '/')[0]
var hubIsId = startsWith(existingHubId, '/subscriptions/') && contains(toLower(existingHubId), '/providers/microsoft.network/virtualnetworks/')
var hubParts = split(hubIsId ? existingHubId : '${subscription().id}/resourceGroups/rg-bulkhead-${environmentName}', '/')
var watcherIsId = startsWith(networkWatcherId, '/subscriptions/') && contains(toLower(networkWatcherId), '/providers/microsoft.network/networkwatchers/')
var watcherParts = split(watcherIsId ? networkWatcherId : '${subscription().id}/resourceGroups/NetworkWatcherRG/providers/Microsoft.Network/networkWatchers/NetworkWatcher_${location}', '/')

// Every problem at once, named; nothing is created before this is evaluated.
var problems = filter(
  [
    toLower(environmentName) == environmentName && !contains(environmentName, '-') && !contains(environmentName, '_') ? '' : 'environmentName must be lower-case letters and digits.'
    startsWith(bankUrl, 'https://') ? '' : 'bankUrl must begin with https://.'
    length(apiClientId) == 36 ? '' : 'apiClientId must be the client id of an app registration (a GUID).'
    length(tenantId) == 36 ? '' : 'tenantId must be a GUID.'
    contains(alertEmail, '@') ? '' : 'alertEmail must be an e-mail address.'
    length(budgetStart) == 10 && endsWith(budgetStart, '-01') ? '' : 'budgetStart must be the first day of a month, such as 2026-12-01.'
    empty(otlpEndpoint) || startsWith(otlpEndpoint, 'https://') ? '' : 'otlpEndpoint must begin with https://, or be empty.'
    !lockedDown || !contains(bankAuthority, ':') || endsWith(bankAuthority, ':443') ? '' : 'bankUrl must use port 443 in posture lockedDown.'
    !lockedDown || !contains(otlpAuthority, ':') || endsWith(otlpAuthority, ':443') ? '' : 'otlpEndpoint must use port 443 in posture lockedDown.'
    !zoneRedundant || lockedDown ? '' : 'zoneRedundant needs posture lockedDown.'
    !zoneRedundant || alwaysReadyInstances >= 2 ? '' : 'alwaysReadyInstances must be at least 2 where zoneRedundant is true.'
    empty(existingHubId) || hubIsId ? '' : 'existingHubId must be the id of a virtual network.'
    empty(existingDnsZoneGroupId) || (startsWith(existingDnsZoneGroupId, '/subscriptions/') && length(split(existingDnsZoneGroupId, '/')) == 5) ? '' : 'existingDnsZoneGroupId must be the id of a resource group.'
    lockedDown || empty(existingHubId) ? '' : 'existingHubId has no meaning in posture default.'
    lockedDown || empty(existingDnsZoneGroupId) ? '' : 'existingDnsZoneGroupId has no meaning in posture default.'
    lockedDown || egress == 'firewall' ? '' : 'egress has no meaning in posture default.'
    empty(existingHubId) == empty(existingRunnerAddressPrefix) ? '' : 'existingRunnerAddressPrefix goes with existingHubId: set both or neither.'
    (egress == 'hub') == !empty(existingFirewallAddress) ? '' : 'existingFirewallAddress goes with egress hub: set both or neither.'
    egress != 'hub' || !empty(existingHubId) ? '' : 'egress hub needs existingHubId.'
    egress != 'firewall' || empty(existingHubId) ? '' : 'egress firewall makes a hub of its own: with existingHubId choose hub or natGateway.'
    !flowLogs || lockedDown ? '' : 'flowLogs needs posture lockedDown.'
    empty(networkWatcherId) || watcherIsId ? '' : 'networkWatcherId must be the id of a network watcher.'
    empty(networkWatcherId) || flowLogs ? '' : 'networkWatcherId has no meaning without flowLogs.'
    endsWith(hubAddressPrefix, '/22') ? '' : 'hubAddressPrefix must be a /22.'
    endsWith(spokeAddressPrefix, '/22') ? '' : 'spokeAddressPrefix must be a /22.'
    hubAddressPrefix != spokeAddressPrefix ? '' : 'hubAddressPrefix and spokeAddressPrefix must differ.'
  ],
  problem => !empty(problem)
)

var token = take(uniqueString(subscription().id, environmentName, location), 6)
// azd finds the resource group by its tag.
var allTags = union(tags, { system: 'bulkhead', environment: environmentName, 'azd-env-name': environmentName })

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: empty(problems) ? 'rg-bulkhead-${environmentName}' : fail(join(problems, ' '))
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    apps: map(topology.apps, app => app.name)
  }
}

module flowIdentity 'modules/identity.bicep' = if (flowLogs) {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    apps: ['flow-logs']
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    lockedDown: lockedDown
    retentionDays: logRetentionDays
    alertEmail: alertEmail
    roles: roles
    principals: identity.outputs.principals
  }
}

module messaging 'modules/messaging.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    name: 'sb-bulkhead-${environmentName}-${token}'
    lockedDown: lockedDown
    messagingUnits: messagingUnits
    topic: topology.serviceBus.topics[0]
    roles: roles
    consumerRole: consumerServiceBusRole == 'owner' ? 'serviceBusDataOwner' : 'serviceBusDataReceiver'
    principals: identity.outputs.principals
    workspaceId: monitoring.outputs.workspaceId
  }
}

module data 'modules/data.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    name: 'cosmos-bulkhead-${environmentName}-${token}'
    lockedDown: lockedDown
    zoneRedundant: zoneRedundant
    maxThroughput: storeMaxThroughput
    database: topology.cosmos.databases[0]
    roles: roles
    principals: identity.outputs.principals
    operatorPrincipalId: operatorPrincipalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module storage 'modules/storage.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    suffix: '${environmentName}${token}'
    lockedDown: lockedDown
    zoneRedundant: zoneRedundant
    apps: map(topology.apps, app => app.name)
    storage: topology.storage
    flowLogs: flowLogs
    roles: roles
    principals: concat(identity.outputs.principals, flowLogs ? flowIdentity!.outputs.principals : [])
    workspaceId: monitoring.outputs.workspaceId
  }
}

module eventing 'modules/eventing.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    name: 'evgt-bulkhead-${environmentName}-${token}'
    lockedDown: lockedDown
    topic: topology.eventGrid.topics[0]
    queue: topology.storage.eventQueue
    deadLetterContainer: topology.storage.eventDeadLetterContainer
    eventsAccount: storage.outputs.eventsName
    roles: roles
    principals: identity.outputs.principals
    workspaceId: monitoring.outputs.workspaceId
  }
}

module network 'modules/network.bicep' = if (lockedDown) {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    apps: map(topology.apps, app => app.name)
    hubAddressPrefix: hubAddressPrefix
    spokeAddressPrefix: spokeAddressPrefix
    clientsAddressPrefix: clientsAddressPrefix
    existingHubId: existingHubId
    existingRunnerAddressPrefix: existingRunnerAddressPrefix
    egress: egress
    existingFirewallAddress: existingFirewallAddress
    firewallTier: firewallTier
    zoneRedundant: zoneRedundant
    outsideHosts: filter([split(bankAuthority, ':')[0], split(otlpAuthority, ':')[0]], host => !empty(host))
    workspaceId: monitoring.outputs.workspaceId
  }
}

module flows 'modules/flow-logs.bicep' = if (flowLogs) {
  scope: resourceGroup(watcherParts[2], watcherParts[4])
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    watcherName: last(watcherParts)
    networks: concat([{ name: 'spoke', id: network!.outputs.spokeId }], ownHub ? [{ name: 'hub', id: network!.outputs.hubId }] : [])
    storageId: storage.outputs.flowsId
    identityId: flowIdentity!.outputs.identities[0].id
  }
}

// The way back from a hub that is somebody else's is made in its own resource group.
module hubPeering 'modules/peering.bicep' = if (lockedDown && !ownHub) {
  scope: resourceGroup(hubParts[2], hubParts[4])
  params: {
    from: last(split(existingHubId, '/'))
    to: network!.outputs.spokeId
    name: 'hub-to-bulkhead-${environmentName}'
  }
}

module zones 'modules/zones.bicep' = if (lockedDown && empty(existingDnsZoneGroupId)) {
  scope: group
  params: {
    tags: allTags
    networks: [network!.outputs.spokeId, network!.outputs.hubId]
  }
}

module apps 'modules/apps.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    token: token
    lockedDown: lockedDown
    zoneRedundant: zoneRedundant
    apps: topology.apps
    identities: identity.outputs.identities
    alwaysReadyInstances: alwaysReadyInstances
    maximumInstances: maximumInstances
    instanceMemoryMB: instanceMemoryMB
    subnetIds: lockedDown ? network!.outputs.functionSubnetIds : []
    packageContainerPrefix: topology.storage.packageContainerPrefix
    hostAccount: storage.outputs.hostName
    paymentsAccount: storage.outputs.paymentsName
    insightsName: monitoring.outputs.insightsName
    busHost: messaging.outputs.host
    storeEndpoint: data.outputs.endpoint
    gridEndpoint: eventing.outputs.endpoint
    bankUrl: bankUrl
    apiClientId: apiClientId
    tenantId: tenantId
    customerOrdersPerSecond: customerOrdersPerSecond
    customerClaim: customerClaim
    otlpEndpoint: otlpEndpoint
    workspaceId: monitoring.outputs.workspaceId
  }
}

module endpoints 'modules/endpoints.bicep' = if (lockedDown) {
  scope: group
  dependsOn: [zones]
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    subnetId: network!.outputs.endpointSubnetId
    zoneGroupId: empty(existingDnsZoneGroupId) ? group.id : existingDnsZoneGroupId
    workspaceName: monitoring.outputs.workspaceName
    insightsName: monitoring.outputs.insightsName
    targets: concat(
      [
        { name: 'bus', id: messaging.outputs.id, part: 'namespace', zones: ['serviceBus'] }
        { name: 'store', id: data.outputs.id, part: 'Sql', zones: ['cosmos'] }
        { name: 'grid', id: eventing.outputs.id, part: 'topic', zones: ['eventGrid'] }
        { name: 'host-blob', id: storage.outputs.hostId, part: 'blob', zones: ['blob'] }
        { name: 'host-queue', id: storage.outputs.hostId, part: 'queue', zones: ['queue'] }
        { name: 'host-table', id: storage.outputs.hostId, part: 'table', zones: ['table'] }
        { name: 'payments-queue', id: storage.outputs.paymentsId, part: 'queue', zones: ['queue'] }
        { name: 'events-queue', id: storage.outputs.eventsId, part: 'queue', zones: ['queue'] }
        { name: 'events-blob', id: storage.outputs.eventsId, part: 'blob', zones: ['blob'] }
      ],
      flowLogs ? [{ name: 'flow-blob', id: storage.outputs.flowsId, part: 'blob', zones: ['blob'] }] : [],
      map(apps.outputs.sites, site => { name: site.app, id: site.id, part: 'sites', zones: ['sites'] })
    )
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    environmentName: environmentName
    lockedDown: lockedDown
    hasFirewall: hasFirewall
    runbookBaseUrl: runbookBaseUrl
    budgetAmount: budgetAmount
    budgetStart: budgetStart
    alertEmail: alertEmail
    actionGroupId: monitoring.outputs.actionGroupId
    workspaceId: monitoring.outputs.workspaceId
    targets: {
      serviceBus: messaging.outputs.id
      cosmos: data.outputs.id
      eventGrid: eventing.outputs.id
      paymentsQueue: '${storage.outputs.paymentsId}/queueServices/default'
      api: apps.outputs.apiId
      firewall: hasFirewall ? network!.outputs.firewallId : ''
    }
  }
}

@description('The resource group.')
output resourceGroupName string = group.name

@description('Where the API is.')
output apiUrl string = apps.outputs.apiUrl

@description('App by app: name in topology.json, name in Azure, package container.')
output apps array = apps.outputs.sites

@description('Account that holds the packages.')
output packageAccount string = storage.outputs.hostName

@description('Endpoint of the store, for the seed.')
output storeEndpoint string = data.outputs.endpoint

@description('Where logs are.')
output workspaceId string = monitoring.outputs.workspaceId

@description('Host of Service Bus.')
output busHost string = messaging.outputs.host

@description('Where events for the outside are published.')
output gridEndpoint string = eventing.outputs.endpoint

@description('Account that holds the queues of payments.')
output paymentsAccount string = storage.outputs.paymentsName

@description('Account that Event Grid delivers into.')
output eventsAccount string = storage.outputs.eventsName

@description('The bank, as the apps call it.')
output bankUrl string = bankUrl
