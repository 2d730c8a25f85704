// Every alert of ../../alerts.json that the posture has something to measure for, and the budget.
param location string
param tags object
param environmentName string
param lockedDown bool
param hasFirewall bool
param runbookBaseUrl string
param budgetAmount int
param budgetStart string
param alertEmail string
param actionGroupId string
param workspaceId string

@description('Ids of what metric alerts look at, by the name that alerts.json gives them.')
param targets object

var catalogue = loadJsonContent('../../alerts.json')
var metricAlerts = filter(
  catalogue.metric,
  a => a.posture == 'any' || (a.posture == 'lockedDown' && lockedDown) || (a.posture == 'firewall' && hasFirewall)
)

resource metric 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for a in metricAlerts: {
    name: 'alert-${a.name}-${environmentName}'
    location: 'global'
    tags: tags
    properties: {
      description: '${a.description} Runbook: ${runbookBaseUrl}/${a.runbook}.md'
      enabled: true
      severity: a.severity
      autoMitigate: true
      scopes: array(targets[a.target])
      evaluationFrequency: a.evaluationFrequency
      windowSize: a.windowSize
      targetResourceType: a.metricNamespace
      targetResourceRegion: location
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: a.name
            metricNamespace: a.metricNamespace
            metricName: a.metricName
            timeAggregation: a.aggregation
            operator: a.operator
            threshold: a.threshold
            dimensions: a.dimensions
          }
        ]
      }
      actions: [{ actionGroupId: actionGroupId }]
    }
  }
]

resource log 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for a in catalogue.log: {
    name: 'alert-${a.name}-${environmentName}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: a.name
      description: '${a.description} Runbook: ${runbookBaseUrl}/${a.runbook}.md'
      enabled: true
      severity: a.severity
      autoMitigate: true
      scopes: [workspaceId]
      evaluationFrequency: a.evaluationFrequency
      windowSize: a.windowSize
      criteria: {
        allOf: [
          {
            query: join(concat(catalogue.prelude, a.query), '\n')
            timeAggregation: a.aggregation
            metricMeasureColumn: a.column
            dimensions: a.dimensions
            operator: a.operator
            threshold: a.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [actionGroupId], customProperties: { runbook: '${runbookBaseUrl}/${a.runbook}.md' } }
    }
  }
]

var notices = [
  { name: 'half', threshold: 50, kind: 'Actual' }
  { name: 'most', threshold: 80, kind: 'Actual' }
  { name: 'all', threshold: 100, kind: 'Actual' }
  { name: 'forecast', threshold: 100, kind: 'Forecasted' }
]

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = {
  name: 'budget-bulkhead-${environmentName}'
  properties: {
    category: 'Cost'
    amount: budgetAmount
    timeGrain: 'Monthly'
    timePeriod: { startDate: '${budgetStart}T00:00:00Z' }
    notifications: toObject(notices, n => n.name, n => {
      enabled: true
      operator: 'GreaterThanOrEqualTo'
      threshold: n.threshold
      thresholdType: n.kind
      contactEmails: [alertEmail]
      contactGroups: [actionGroupId]
    })
  }
}
