// The right of the app to have a load balancer lead to addresses of the nodes' network.
param name string
param subnetId string
param appPrincipal string

resource lead 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'lead to addresses')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: lead to addresses of a network (${uniqueString(resourceGroup().id)})'
    description: 'Have a load balancer lead to addresses of a virtual network.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [{ actions: ['Microsoft.Network/virtualNetworks/joinLoadBalancer/action'] }]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-07-01' existing = {
  name: split(subnetId, '/')[8]
}

resource appLeads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(network.id, appPrincipal, lead.id)
  scope: network
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: lead.id
  }
}

output roleId string = lead.id
