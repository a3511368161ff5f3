// The app's own storage: its zip, the agent's program, the tables. It knows no keys;
// whoever reads or writes has an identity with a right.
@description('Name of the account: a new one, or an existing one in the resource group of this module.')
param account string
param create bool
param location string
param tags object
param sku string
param appPrincipal string
param nodePrincipal string
@description('Object ids of those who upload the app and the agent.')
param deployers array

resource storage 'Microsoft.Storage/storageAccounts@2026-04-01' = if (create) {
  name: account
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2026-04-01' = if (create) {
  parent: storage
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource appContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = {
  name: '${account}/default/app'
  dependsOn: [blobs]
  properties: { publicAccess: 'None' }
}

resource agentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = {
  name: '${account}/default/agent'
  dependsOn: [blobs]
  properties: { publicAccess: 'None' }
}

var tables = ['pools', 'ids', 'usage', 'rollups', 'rules', 'users', 'audit', 'budgets', 'prices']

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-04-01' = [
  for name in tables: {
    name: '${account}/default/${name}'
    dependsOn: [storage]
  }
]

resource scope 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: account
}

// Storage Blob Data Owner, Queue Data Contributor and Table Data Contributor: what the
// Functions host needs for its leases and keys, and the app for its tables.
var appRoles = [
  'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
]

resource appUses 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in appRoles: {
    name: guid(scope.id, appPrincipal, role)
    scope: scope
    dependsOn: [storage]
    properties: {
      principalId: appPrincipal
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

// Storage Blob Data Reader on the one container: a node fetches the agent.
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'

resource nodeReadsAgent 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(agentContainer.id, nodePrincipal, blobReader)
  scope: agentContainer
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobReader)
  }
}

// Storage Blob Data Contributor on the two containers.
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource deployersWriteApp 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for deployer in deployers: {
    name: guid(appContainer.id, deployer, blobContributor)
    scope: appContainer
    properties: {
      principalId: deployer
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
    }
  }
]

resource deployersWriteAgent 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for deployer in deployers: {
    name: guid(agentContainer.id, deployer, blobContributor)
    scope: agentContainer
    properties: {
      principalId: deployer
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
    }
  }
]

output blobEndpoint string = 'https://${account}.blob.${environment().suffixes.storage}'
output tableEndpoint string = 'https://${account}.table.${environment().suffixes.storage}'
