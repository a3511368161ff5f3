// The share of the jobs' files, on an account of its own: the app's mount needs the
// account's key, so that a policy against such keys meets this account alone. Of an
// account that exists already nothing is changed.
@description('Name of the account: a new one, or an existing one in the resource group of this module.')
param account string
param create bool
param location string
param tags object
param sku string
param share string
@allowed(['key', 'identity'])
param auth string
param nodePrincipal string

resource storage 'Microsoft.Storage/storageAccounts@2026-04-01' = if (create) {
  name: account
  location: location
  // Microsoft's own sample for this mount sets the second tag, which keeps an automatic
  // policy from switching the key off.
  tags: union(tags, { 'Az.Sec.DisableLocalAuth.Storage::Skip': 'the mount of the function app needs the key' })
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: true
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    azureFilesIdentityBasedAuthentication: auth == 'identity'
      ? { directoryServiceOptions: 'None', smbOAuthSettings: { isSmbOAuthEnabled: true } }
      : null
  }
}

resource files 'Microsoft.Storage/storageAccounts/fileServices@2026-04-01' = if (create) {
  parent: storage
  name: 'default'
  properties: {
    protocolSettings: {
      smb: {
        versions: 'SMB3.1.1'
        authenticationMethods: 'NTLMv2;Kerberos'
        channelEncryption: 'AES-128-GCM;AES-256-GCM'
      }
    }
    shareDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource pools 'Microsoft.Storage/storageAccounts/fileServices/shares@2026-04-01' = if (create) {
  parent: files
  name: share
  properties: {
    accessTier: 'TransactionOptimized'
    enabledProtocols: 'SMB'
    // GiB; only what is used is paid.
    shareQuota: 5120
  }
}

resource scope 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: account
}

// Storage File Data SMB MI Admin: nodes mount with their identity.
var smbAdmin = 'a235d3ee-5935-4cfb-8cc5-a3303ad5995e'

resource nodeMounts 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (auth == 'identity') {
  name: guid(scope.id, nodePrincipal, smbAdmin)
  scope: scope
  dependsOn: [storage]
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', smbAdmin)
  }
}

output accountId string = scope.id
