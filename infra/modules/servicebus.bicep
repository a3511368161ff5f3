// The namespace, its six queues, and who may send to them and receive from them.
// Sessions need the tier Standard.
param name string
param location string
param tags object
param appPrincipal string
param nodePrincipal string
@description('Object ids of those who may send jobs and pools to the queues.')
param users array
@description('Workspace of the operational logs.')
param workspaceId string

// Functions hold messages of a batch for up to four minutes and do not renew their
// locks, so their queues have the longest lock that there is. An agent renews the
// lock of its session itself. Nobody empties the dead letters of `work`, so that an
// expired assignment is dropped; all others are looked at by Reconcile.
var queues = [
  { name: 'jobs', lock: 'PT5M', deliveries: 10, timeToLive: 'P14D', deadLetter: true, megabytes: 5120, session: false }
  { name: 'pools', lock: 'PT5M', deliveries: 10, timeToLive: 'P14D', deadLetter: true, megabytes: 1024, session: false }
  {
    name: 'pool-events'
    lock: 'PT5M'
    deliveries: 1000
    timeToLive: 'P7D'
    deadLetter: true
    megabytes: 1024
    session: false
  }
  {
    name: 'node-events'
    lock: 'PT5M'
    deliveries: 1000
    timeToLive: 'P7D'
    deadLetter: true
    megabytes: 1024
    session: false
  }
  { name: 'work', lock: 'PT2M', deliveries: 1000, timeToLive: 'P1D', deadLetter: false, megabytes: 1024, session: true }
  {
    name: 'rejected'
    lock: 'PT1M'
    deliveries: 10
    timeToLive: 'P30D'
    deadLetter: false
    megabytes: 1024
    session: false
  }
]

resource namespace 'Microsoft.ServiceBus/namespaces@2026-01-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard' }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
  }
}

// One after the other: the namespace refuses changes that come at once.
@batchSize(1)
resource queue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' = [
  for q in queues: {
    parent: namespace
    name: q.name
    properties: {
      lockDuration: q.lock
      maxDeliveryCount: q.deliveries
      defaultMessageTimeToLive: q.timeToLive
      deadLetteringOnMessageExpiration: q.deadLetter
      maxSizeInMegabytes: q.megabytes
      requiresSession: q.session
      requiresDuplicateDetection: false
      enablePartitioning: false
    }
  }
]

// Data Owner: the app receives, sends and fences sessions, and the scaling of its
// plan reads the lengths of queues.
var dataOwner = '090c5cfd-751d-490a-894a-3ce6f1109419'
var dataReceiver = '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
var dataSender = '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'

resource appOwns 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(namespace.id, appPrincipal, dataOwner)
  scope: namespace
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataOwner)
  }
}

resource workQueue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = {
  parent: namespace
  name: 'work'
}

resource nodeReceives 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(namespace.id, 'work', nodePrincipal, dataReceiver)
  scope: workQueue
  dependsOn: [queue]
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataReceiver)
  }
}

resource nodeEventsQueue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = {
  parent: namespace
  name: 'node-events'
}

resource nodeSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(namespace.id, 'node-events', nodePrincipal, dataSender)
  scope: nodeEventsQueue
  dependsOn: [queue]
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
  }
}

resource jobsQueue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = {
  parent: namespace
  name: 'jobs'
}

resource usersSendJobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    name: guid(namespace.id, 'jobs', user, dataSender)
    scope: jobsQueue
    dependsOn: [queue]
    properties: {
      principalId: user
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
    }
  }
]

resource poolsQueue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = {
  parent: namespace
  name: 'pools'
}

resource usersSendPools 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    name: guid(namespace.id, 'pools', user, dataSender)
    scope: poolsQueue
    dependsOn: [queue]
    properties: {
      principalId: user
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
    }
  }
]

// The older version without "preview" is from 2016; all of Azure's samples use this one.
#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'dsvmpools'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'OperationalLogs', enabled: true }]
  }
}

output id string = namespace.id
output host string = split(split(namespace.properties.serviceBusEndpoint, '//')[1], ':')[0]
