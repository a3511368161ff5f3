// The right of the app to put nodes into the subnet, which lies in another resource
// group than the nodes. The scope is the one subnet.
param name string
param subnetId string
param appPrincipal string

resource joinSubnet 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'join subnet')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: join a subnet (${uniqueString(resourceGroup().id)})'
    description: 'Put nodes into a subnet.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [{ actions: ['Microsoft.Network/virtualNetworks/subnets/join/action'] }]
  }
}

resource subnet 'Microsoft.Network/virtualNetworks/subnets@2025-07-01' existing = {
  name: '${split(subnetId, '/')[8]}/${split(subnetId, '/')[10]}'
}

resource appJoins 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subnetId, appPrincipal, joinSubnet.id)
  scope: subnet
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: joinSubnet.id
  }
}

output roleId string = joinSubnet.id
