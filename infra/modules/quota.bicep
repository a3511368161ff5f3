// The app reads quotas and sizes, which belong to the subscription: a right on the
// nodes' resource group does not cover them.
targetScope = 'subscription'

param name string
param appPrincipal string

resource readQuota 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, name, 'read quota')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: read quotas and sizes (${uniqueString(subscription().id)})'
    description: 'Read what a region offers and what the subscription may use of it.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [{ actions: ['Microsoft.Compute/locations/usages/read', 'Microsoft.Compute/locations/vmSizes/read'] }]
  }
}

// The name holds the principal: an identity that was deleted and made again gets an
// assignment of its own, since Azure refuses to change the principal of one.
resource appReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, appPrincipal, readQuota.id)
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: readQuota.id
  }
}

output roleId string = readQuota.id
