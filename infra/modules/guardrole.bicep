// The right of the app to open nodes to people, one rule for each pool of which somebody has a
// session: the rules of the one security group, and nothing else of it.
param name string
param guardId string
param appPrincipal string

resource openNodes 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'open nodes')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: open nodes to people (${uniqueString(resourceGroup().id)})'
    description: 'Write and remove the rules of a network security group.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: [
          'Microsoft.Network/networkSecurityGroups/securityRules/read'
          'Microsoft.Network/networkSecurityGroups/securityRules/write'
          'Microsoft.Network/networkSecurityGroups/securityRules/delete'
        ]
      }
    ]
  }
}

resource guard 'Microsoft.Network/networkSecurityGroups@2025-07-01' existing = {
  name: split(guardId, '/')[8]
}

resource appOpens 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(guardId, appPrincipal, openNodes.id)
  scope: guard
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: openNodes.id
  }
}

output roleId string = openNodes.id
