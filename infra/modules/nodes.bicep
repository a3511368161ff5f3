// Rights in the nodes' resource group, which holds scale sets and nothing else.
param name string
param appPrincipal string
param nodePrincipal string

// Virtual Machine Contributor: the app makes, changes and deletes scale sets.
var machineContributor = '9980e02c-c2be-4d73-94e8-173b1dc7cf3c'

resource appOperates 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, appPrincipal, machineContributor)
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', machineContributor)
  }
}

// The dead man's switch: a node that nobody hears deletes itself, since a VM that is
// only powered off is billed on.
resource deleteInstance 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'delete instance')
  properties: {
    // Names of roles are unique in a directory, which may have several deployments.
    roleName: 'dsvmpools ${name}: delete a node (${uniqueString(resourceGroup().id)})'
    description: 'Delete an instance of a scale set.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [{ actions: ['Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete'] }]
  }
}

resource nodeDeletesItself 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, nodePrincipal, deleteInstance.id)
  properties: {
    principalId: nodePrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: deleteInstance.id
  }
}

output roleId string = deleteInstance.id
