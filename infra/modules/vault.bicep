// The vault: the share's key for the app and the nodes, and the secrets of jobs.
@description('Name of the vault: a new one, or an existing one in the resource group of this module. It grants by roles.')
param vault string
param create bool
@description('A vault of this name was deleted a few days ago and comes back.')
param recover bool
param location string
param tags object
param appPrincipal string
param nodePrincipal string
param shareAccountId string
param secretName string
@description('Workspace of the audit log.')
param workspaceId string

resource keys 'Microsoft.KeyVault/vaults@2026-02-01' = if (create) {
  name: vault
  location: location
  tags: tags
  properties: {
    createMode: recover ? 'recover' : 'default'
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: 'Enabled'
  }
}

resource scope 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vault
}

resource shareAccount 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: split(shareAccountId, '/')[8]
  scope: resourceGroup(split(shareAccountId, '/')[2], split(shareAccountId, '/')[4])
}

resource shareKey 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: scope
  name: secretName
  tags: tags
  dependsOn: [keys]
  properties: {
    contentType: 'key of the storage account ${split(shareAccountId, '/')[8]}'
    value: shareAccount.listKeys().keys[0].value
  }
}

// Key Vault Secrets User: the app resolves references in its settings, such as the one
// to the share's key; a node reads that key and the secrets that jobs name.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource appReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(scope.id, appPrincipal, secretsUser)
  scope: scope
  dependsOn: [keys]
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

resource nodeReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(scope.id, nodePrincipal, secretsUser)
  scope: scope
  dependsOn: [keys]
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (create) {
  name: 'dsvmpools'
  scope: scope
  dependsOn: [keys]
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}

// The address of the secret's newest version.
output shareKeyUrl string = 'https://${vault}${environment().suffixes.keyvaultDns}/secrets/${secretName}'
