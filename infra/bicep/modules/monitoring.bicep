// Where logs and metrics go, who is told, and the questions that are worth keeping.
param location string
param tags object
param environmentName string
param lockedDown bool
param retentionDays int
param alertEmail string
param roles object
param principals array

var access = lockedDown ? 'Disabled' : 'Enabled'
var principalOf = toObject(principals, p => p.app, p => p.id)
var publishers = filter(roles.assignments, a => a.scope == 'applicationInsights')
var searches = [
  { name: 'order-by-correlation-id', title: 'One order by correlation id', query: loadTextContent('../../kql/order-by-correlation-id.kql') }
  { name: 'stage-latency', title: 'Stage latency', query: loadTextContent('../../kql/stage-latency.kql') }
  { name: 'dead-letters-by-reason', title: 'Dead letters by reason', query: loadTextContent('../../kql/dead-letters-by-reason.kql') }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: 'log-bulkhead-${environmentName}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    features: { disableLocalAuth: true, enableLogAccessUsingOnlyResourcePermissions: true }
    publicNetworkAccessForIngestion: access
    publicNetworkAccessForQuery: access
  }
}

resource workspaceDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: workspace
  properties: {
    workspaceId: workspace.id
    logs: [{ categoryGroup: 'audit', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-bulkhead-${environmentName}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
    publicNetworkAccessForIngestion: access
    publicNetworkAccessForQuery: access
  }
}

resource publisherRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for a in publishers: {
    scope: insights
    name: guid(insights.id, a.principal, a.role)
    properties: {
      principalId: principalOf[a.principal]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.definitions[a.role].id)
    }
  }
]

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-bulkhead-${environmentName}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'bulkhead'
    enabled: true
    emailReceivers: [{ name: 'operators', emailAddress: alertEmail, useCommonAlertSchema: true }]
  }
}

resource savedSearches 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-07-01' = [
  for search in searches: {
    parent: workspace
    name: search.name
    properties: {
      category: 'Bulkhead'
      displayName: search.title
      query: search.query
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(workspace.id, 'bulkhead')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    category: 'workbook'
    displayName: 'Bulkhead ${environmentName}'
    serializedData: loadTextContent('../../workbook.json')
    sourceId: toLower(workspace.id)
    version: '1.0'
  }
}

output workspaceId string = workspace.id
output workspaceName string = workspace.name
output insightsName string = insights.name
output actionGroupId string = actionGroup.id
