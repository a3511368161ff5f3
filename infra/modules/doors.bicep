// How people come into sessions of interactive pools: a relay, at which nodes listen and
// people send, and a vault of its own with the relay's keys and the key that signs SSH
// certificates. Nodes may read the other vault, and a node that could read these keys could
// pass for any other one.
@description('Name of the relay\'s namespace.')
param relay string
@description('Name of the vault of the keys.')
param vault string
@description('A vault of this name was deleted a few days ago and comes back.')
param recover bool
param name string
param location string
param tags object
param appPrincipal string
@description('Workspace of the audit log.')
param workspaceId string

// Its entities, one for each node and one more for browsers, are made by the app when they are
// needed. They cost nothing while nobody listens.
resource namespace 'Microsoft.Relay/namespaces@2026-01-01' = {
  name: relay
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard' }
}

// Each rule has one right: who may send cannot listen in the place of a node.
resource listen 'Microsoft.Relay/namespaces/authorizationRules@2026-01-01' = {
  parent: namespace
  name: 'listen'
  properties: { rights: ['Listen'] }
}

// One after the other: the namespace refuses two changes at once.
resource send 'Microsoft.Relay/namespaces/authorizationRules@2026-01-01' = {
  parent: namespace
  name: 'send'
  dependsOn: [listen]
  properties: { rights: ['Send'] }
}

// The one call of the app at the resource manager makes an entity. The built-in roles for
// relays would let it listen, send and delete, too.
resource makeEntities 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'make entities')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: make entities of a relay (${uniqueString(resourceGroup().id)})'
    description: 'Make the hybrid connections of a relay.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [{ actions: ['Microsoft.Relay/namespaces/hybridConnections/write'] }]
  }
}

resource appMakes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(namespace.id, appPrincipal, makeEntities.id)
  scope: namespace
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: makeEntities.id
  }
}

resource keys 'Microsoft.KeyVault/vaults@2026-02-01' = {
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

resource listenKey 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: keys
  name: 'relay-listen'
  tags: tags
  properties: {
    contentType: 'key of the rule listen of the relay ${relay}'
    value: listen.listKeys().primaryKey
  }
}

resource sendKey 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: keys
  name: 'relay-send'
  tags: tags
  properties: {
    contentType: 'key of the rule send of the relay ${relay}'
    value: send.listKeys().primaryKey
  }
}

// Made once: a key of this name that is there stays as it is. Nobody can read its private half.
resource authority 'Microsoft.KeyVault/vaults/keys@2026-02-01' = {
  parent: keys
  name: 'ssh-ca'
  tags: tags
  properties: { kty: 'EC', curveName: 'P-256', keyOps: ['sign'] }
}

// Key Vault Secrets User: the app resolves the references to the relay's keys.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource appReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(keys.id, appPrincipal, secretsUser)
  scope: keys
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

// Key Vault Crypto User: the app reads the public half of the one key and signs with it.
var cryptoUser = '12338af0-0e69-4776-bea7-57ae8d297424'

resource appSigns 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(authority.id, appPrincipal, cryptoUser)
  scope: authority
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cryptoUser)
  }
}

#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'dsvmpools'
  scope: keys
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}

var at = 'https://${vault}${environment().suffixes.keyvaultDns}'

output relayUrl string = 'https://${split(split(namespace.properties.serviceBusEndpoint, '//')[1], ':')[0]}'
// The addresses of the secrets' newest versions.
output listenKeyUrl string = '${at}/secrets/${listenKey.name}'
output sendKeyUrl string = '${at}/secrets/${sendKey.name}'
output authorityUrl string = '${at}/keys/${authority.name}'
output roleId string = makeEntities.id
