// The right of the app to make and remove load balancers with their addresses in the nodes'
// resource group. A balancer is there while its pool has nodes.
param name string
param appPrincipal string

resource balance 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'make balancers')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: make load balancers (${uniqueString(resourceGroup().id)})'
    description: 'Make and remove load balancers and their public addresses.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: [
          'Microsoft.Network/loadBalancers/read'
          'Microsoft.Network/loadBalancers/write'
          'Microsoft.Network/loadBalancers/delete'
          'Microsoft.Network/loadBalancers/backendAddressPools/read'
          'Microsoft.Network/loadBalancers/backendAddressPools/write'
          'Microsoft.Network/publicIPAddresses/read'
          'Microsoft.Network/publicIPAddresses/write'
          'Microsoft.Network/publicIPAddresses/delete'
          'Microsoft.Network/publicIPAddresses/join/action'
        ]
      }
    ]
  }
}

resource appBalances 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, appPrincipal, balance.id)
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: balance.id
  }
}

output roleId string = balance.id
