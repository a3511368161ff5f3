// The right of the app to make nodes from an own image, of a gallery or of its own.
@description('Resource id of the image, or of a version of it.')
param image string
param appPrincipal string

var isOfGallery = contains(toLower(image), '/galleries/')
var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource gallery 'Microsoft.Compute/galleries@2025-03-03' existing = {
  name: split(image, '/')[8]
}

resource appReadsGallery 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isOfGallery) {
  name: guid(gallery.id, appPrincipal, reader)
  scope: gallery
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}

resource single 'Microsoft.Compute/images@2026-04-01' existing = {
  name: split(image, '/')[8]
}

resource appReadsImage 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!isOfGallery) {
  name: guid(single.id, appPrincipal, reader)
  scope: single
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}
