// The function app on the plan Flex Consumption, which costs nothing while nothing
// happens, with the share mounted.
param name string
param location string
param tags object
param identityId string
param identityClient string
param hostAccount string
param blobEndpoint string
param instanceMemoryMB int
param maximumInstances int
@description('Functions that keep an instance: [{name: "function:SubmitJob", instanceCount: 1}].')
param alwaysReady array
param shareAccount string
param share string
param shareKeyUrl string
param insightsConnection string
@description('URL that links on commits begin with; empty: the app\'s own.')
param publicUrl string
@description('Settings that the caller knows.')
param settings object
@description('More settings, which come before those of the caller. They may be secrets: no record of a deployment shows them.')
@secure()
param extraSettings object

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobEndpoint}/app'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReady
      }
      runtime: { name: 'custom', version: '1.0' }
    }
  }
}

// The host's own settings; those of the app are the caller's. The key of the share
// stays in the vault.
resource appSettings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: site
  name: 'appsettings'
  properties: union(settings, extraSettings, {
    AzureWebJobsStorage__accountName: hostAccount
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClient
    // Timers lock by it; at most 32 characters.
    AzureFunctionsWebHost__hostid: take(name, 32)
    AzureWebJobsDisableHomepage: 'true'
    APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClient};Authorization=AAD'
    AZURE_CLIENT_ID: identityClient
    AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
    DSVM_PUBLIC_URL: empty(publicUrl) ? 'https://${site.properties.defaultHostName}' : publicUrl
    SHARE_PATH: mountPath
    MOUNT_KEY: '@Microsoft.KeyVault(SecretUri=${shareKeyUrl})'
  })
}

var mountPath = '/mounts/share'

resource mounts 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: site
  name: 'azurestorageaccounts'
  dependsOn: [appSettings]
  properties: {
    share: {
      type: 'AzureFiles'
      accountName: shareAccount
      shareName: share
      mountPath: mountPath
      // The value names a setting; it is not the key.
      #disable-next-line use-secure-value-for-secure-inputs
      accessKey: '@AppSettingRef(MOUNT_KEY)'
      protocol: 'Smb'
    }
  }
}

// Nobody deploys with a user name and a password.
resource noScmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'scm'
  properties: { allow: false }
}

resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'ftp'
  properties: { allow: false }
}

output name string = site.name
output url string = 'https://${site.properties.defaultHostName}'
