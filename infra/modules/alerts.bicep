// What somebody is told by mail. All are metrics: about fourteen time series, which cost
// 0.10 dollars a month each.
param name string
param tags object
param namespaceId string
param insightsId string
param emails array

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: take(name, 12)
    emailReceivers: [for (email, i) in emails: { name: 'mail${i}', emailAddress: email, useCommonAlertSchema: true }]
  }
}

var queueMetrics = 'Microsoft.ServiceBus/namespaces'

// Reconcile brings dead messages back after 1 minute, 10 minutes and 1 hour. A queue
// that has had some for an hour needs a person.
resource deadLetters 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'dead-letters-${name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'A queue has had dead letters for an hour. docs/operate.md says what to do.'
    enabled: true
    severity: 2
    scopes: [namespaceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'dead'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: queueMetrics
          metricName: 'DeadletteredMessages'
          dimensions: [{ name: 'EntityName', operator: 'Include', values: ['*'] }]
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Minimum'
        }
      ]
    }
    actions: [{ actionGroupId: group.id }]
  }
}

// Messages that wait for half an hour: the app does not run, or fails.
resource backlog 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'backlog-${name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages for the app wait for 30 minutes: it does not start, or it fails.'
    enabled: true
    severity: 1
    scopes: [namespaceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT30M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'waiting'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: queueMetrics
          metricName: 'ActiveMessages'
          dimensions: [
            { name: 'EntityName', operator: 'Include', values: ['jobs', 'pools', 'pool-events', 'node-events'] }
          ]
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Minimum'
        }
      ]
    }
    actions: [{ actionGroupId: group.id }]
  }
}

resource failures 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'failures-${name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'More than 10 invocations of the app failed within 15 minutes.'
    enabled: true
    severity: 2
    scopes: [insightsId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'failed'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'microsoft.insights/components'
          metricName: 'requests/failed'
          operator: 'GreaterThan'
          threshold: 10
          timeAggregation: 'Count'
        }
      ]
    }
    actions: [{ actionGroupId: group.id }]
  }
}

// An agent reports each minute. Work that waits for nodes while no node reports at all
// means that none can: no network, no right, a wrong agent. One silent node among
// others is the pool's business, which replaces it.
resource silence 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'silence-${name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Work waits for nodes and for 30 minutes no agent has reported.'
    enabled: true
    severity: 1
    scopes: [namespaceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT30M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'work'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: queueMetrics
          metricName: 'ActiveMessages'
          dimensions: [{ name: 'EntityName', operator: 'Include', values: ['work'] }]
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Minimum'
        }
        {
          name: 'ticks'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: queueMetrics
          metricName: 'IncomingMessages'
          dimensions: [{ name: 'EntityName', operator: 'Include', values: ['pool-events'] }]
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Total'
        }
        {
          name: 'reports'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: queueMetrics
          metricName: 'IncomingMessages'
          dimensions: [{ name: 'EntityName', operator: 'Include', values: ['node-events'] }]
          operator: 'LessThanOrEqual'
          threshold: 0
          timeAggregation: 'Total'
        }
      ]
    }
    actions: [{ actionGroupId: group.id }]
  }
}
