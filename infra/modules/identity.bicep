// The two identities of a deployment. They are user-assigned, so that their rights
// exist before the app and the nodes do.
param name string
param location string
param tags object

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-app'
  location: location
  tags: tags
}

resource node 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${name}-node'
  location: location
  tags: tags
}

// Managed Identity Operator: the app gives the nodes' identity to scale sets.
var managedIdentityOperator = 'f1a07417-d97a-45cb-824c-7a7467783830'

resource appAssignsNode 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(node.id, app.id, managedIdentityOperator)
  scope: node
  properties: {
    principalId: app.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', managedIdentityOperator)
  }
}

output appId string = app.id
output appPrincipal string = app.properties.principalId
output appClient string = app.properties.clientId
output nodeId string = node.id
output nodePrincipal string = node.properties.principalId
output nodeClient string = node.properties.clientId
