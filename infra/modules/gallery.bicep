// A gallery for own images, and the app's right to make nodes from them.
param name string
param location string
param tags object
param appPrincipal string

resource gallery 'Microsoft.Compute/galleries@2025-03-03' = {
  name: name
  location: location
  tags: tags
}

var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource appReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(gallery.id, appPrincipal, reader)
  scope: gallery
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}
