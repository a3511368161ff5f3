// A whole deployment: az deployment sub create -l LOCATION -f main.json -p @main.parameters.json
// Every module is explained in README.md. Names are derived, so that a second run
// finds what the first one made.
targetScope = 'subscription'

metadata description = 'dsvmpools: shared pools of virtual machines that exist only while there is work'

@description('Base of all names, of a-z 0-9, beginning with a letter; also the name of the resource group of the platform. The nodes live in NAME-nodes.')
@minLength(3)
@maxLength(11)
param name string

@description('Region of everything.')
param location string = deployment().location

@description('Tags of everything, beside dsvmpools=NAME.')
param tags object = {}

@description('Public key of the nodes\' administrator `dsvm`, as in ~/.ssh/id_ed25519.pub. Azure wants one; nobody logs in while nothing lets port 22 in.')
@minLength(80)
param sshPublicKey string

@description('Image of nodes of pools that name none: publisher:offer:sku:version, a short name, or a resource id, which the app gets the right to read.')
param image string = 'microsoft-dsvm:ubuntu-2204:2204-gen2:latest'

@description('Security type of nodes; TrustedLaunch comes without Secure Boot, which the drivers of GPUs do not pass.')
@allowed(['', 'TrustedLaunch'])
param securityType string = ''

@description('Availability zones of nodes, such as ["1"]; empty: Azure chooses.')
param zones array = []

@description('Resource id of a proximity placement group of nodes; empty: none. The app needs rights on it.')
param proximityGroupId string = ''

@description('Memory of an instance of the app in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 512

@description('Most instances of the app, for each of its functions.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('Functions that keep an instance, for jobs that begin within seconds: [{"name": "function:SubmitJob", "instanceCount": 1}]. Each costs about 5 dollars a month at 512 MB.')
param alwaysReady array = []

@description('Every node has a public address while it lives, as its way out. false: the network of subnetId has a way out.')
param nodePublicIp bool = true

@description('Resource id of an own subnet for the nodes, in the same region; empty: a network is made.')
param subnetId string = ''

@description('Addresses of the network that is made.')
param vnetPrefix string = '10.60.0.0/16'

@description('Object ids of those who upload the app and the agent.')
param deployers array = []

@description('Object ids of those who send jobs and pools to the queues.')
param users array = []

@description('Logs of a day in GB, at most; a number. What comes beyond is dropped.')
param dailyLogCapGb string = '1'

@description('Redundancy of the storage accounts.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageSku string = 'Standard_LRS'

@description('Name of the share.')
@minLength(3)
@maxLength(63)
param shareName string = 'dsvm'

@description('How nodes mount the share: with the account\'s key from the vault, or with their identity.')
@allowed(['key', 'identity'])
param shareAuth string = 'key'

@description('Resource id of an own storage account that holds the share shareName already; empty: both are made.')
param existingShareAccountId string = ''

@description('Resource id of an own storage account for the app: two containers and the tables are made in it; empty: an account is made.')
param existingHostAccountId string = ''

@description('Resource id of an own vault that grants by roles; empty: one is made. Nodes may read all its secrets.')
param existingVaultId string = ''

@description('The vault of this deployment was deleted within the last 7 days and is to come back.')
param recoverVault bool = false

@description('What interactive pools need is made: a relay, and a vault with its keys and the key that signs SSH certificates. It costs nothing while nobody has a session.')
param interactive bool = true

@description('The vault of the keys of interactive pools was deleted within the last 7 days and is to come back.')
param recoverKeys bool = false

@description('Ranges of IPv4 addresses from which people may come in to nodes beside the relay, by `access: direct` or `access: balancer` of a pool; empty: nobody does.')
param waysFrom array = []

@description('Resource id of the network security group of an own subnet; only with waysFrom. The app writes a rule into it for each pool in use; load balancers must be let in by it to look at the port 443 of nodes.')
param networkGuardId string = ''

@description('Id of the Entra tenant whose people may sign in; empty: nobody can, and programs use the key. docs/identity.md says how.')
param signInTenant string = ''

@description('Client id of the application that people sign in to; several with commas.')
param signInAudience string = ''

@description('Issuer of tokens where it is not that of the tenant in the public cloud.')
param signInIssuer string = ''

@description('Who has which role: GROUP=user:TEAM; GROUP=operator; *=reader.')
param roles string = ''

@description('Certificate by which browsers know nodes behind a balancer: keyvault:VAULT/NAME, in PEM; nodes must be able to read it. Empty: nodes make their own.')
param doorCertificate string = ''

@description('Role of programs, which have the key of the app.')
@allowed(['', 'reader', 'user', 'operator'])
param keyRole string = ''

@description('A gallery for own images is made.')
param gallery bool = false

@description('What the nodes may cost in a month before a mail is sent, in the currency of the subscription; 0: no budget.')
@minValue(0)
param budgetPerMonth int = 0

@description('Who gets the mails of the budget.')
param budgetEmails array = []

@description('First day of the budget\'s first month, such as 2026-12-01, which is this month or a later one when the budget is made. It cannot be changed afterwards.')
param budgetStart string = ''

@description('Who gets the mails of alerts: dead letters, failures of the app, silent agents; empty: no alerts. They cost about 1 dollar a month.')
param alertEmails array = []

@description('SHA-256 of the agent\'s program, in hexadecimal, which is also its name in the container `agent`.')
@maxLength(64)
param agentSha256 string = ''

@description('URL that links on commits begin with, if the app has a domain of its own.')
param publicUrl string = ''

@description('More settings of the app, by name, from docs/settings.md. Azure shows them in no record of the deployment, so that each deployment has to name them again; dsvm deploy does.')
@secure()
param extraSettings object = {}

@description('Time of this deployment; leave it alone.')
param deployedAt string = utcNow('yyyy-MM-ddTHH:mm:ssZ')

// As Azure's own names of regions are, whether somebody writes westeurope or West Europe.
var region = toLower(replace(location, ' ', ''))
var unique = '${name}${uniqueString(subscription().id, name, region)}'
var allTags = union(tags, { dsvmpools: name })

var hostAccount = empty(existingHostAccountId) ? '${take(unique, 23)}h' : split(existingHostAccountId, '/')[8]
var hostGroup = empty(existingHostAccountId)
  ? { subscription: subscription().subscriptionId, name: name }
  : { subscription: split(existingHostAccountId, '/')[2], name: split(existingHostAccountId, '/')[4] }

var shareAccount = empty(existingShareAccountId) ? '${take(unique, 23)}s' : split(existingShareAccountId, '/')[8]
var shareGroup = empty(existingShareAccountId)
  ? { subscription: subscription().subscriptionId, name: name }
  : { subscription: split(existingShareAccountId, '/')[2], name: split(existingShareAccountId, '/')[4] }

var vault = empty(existingVaultId) ? 'kv-${take(unique, 21)}' : split(existingVaultId, '/')[8]
var vaultGroup = empty(existingVaultId)
  ? { subscription: subscription().subscriptionId, name: name }
  : { subscription: split(existingVaultId, '/')[2], name: split(existingVaultId, '/')[4] }

var keysVault = 'kd-${take(unique, 21)}'

var galleryName = 'gal${name}'
var vnet = 'vnet-${name}'
var nodesSubnet = empty(subnetId)
  ? resourceId(subscription().subscriptionId, name, 'Microsoft.Network/virtualNetworks/subnets', vnet, 'nodes')
  : subnetId
var subnetGroup = empty(subnetId)
  ? { subscription: subscription().subscriptionId, name: name }
  : { subscription: split(subnetId, '/')[2], name: split(subnetId, '/')[4] }

var hasWays = !empty(waysFrom)
var guard = !hasWays || !empty(networkGuardId)
  ? networkGuardId
  : (empty(subnetId)
      ? resourceId(subscription().subscriptionId, name, 'Microsoft.Network/networkSecurityGroups', 'nsg-${name}')
      : fail('waysFrom needs networkGuardId with an own subnet: the security group of that subnet'))
var guardGroup = empty(networkGuardId)
  ? { subscription: subscription().subscriptionId, name: name }
  : { subscription: split(networkGuardId, '/')[2], name: split(networkGuardId, '/')[4] }

// Azure refuses a budget whose start is another than that it was made with, so that
// the current month is no default.
var firstMonth = budgetPerMonth > 0 && empty(budgetStart)
  ? fail('budgetPerMonth needs budgetStart: the first day of this month, and the same day each time that you deploy again')
  : budgetStart

var isOwnImage = startsWith(image, '/subscriptions/')

resource platform 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: name
  location: region
  tags: allTags
}

// Scale sets alone: the app's right on machines ends here, and to delete every node is
// to empty this group.
resource nodes 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: '${name}-nodes'
  location: region
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  scope: platform
  name: 'identity'
  params: { name: name, location: region, tags: allTags }
}

module monitor 'modules/monitor.bicep' = {
  scope: platform
  name: 'monitor'
  params: {
    name: name
    location: region
    tags: allTags
    dailyLogCapGb: dailyLogCapGb
    appPrincipal: identity.outputs.appPrincipal
  }
}

module network 'modules/network.bicep' = if (empty(subnetId)) {
  scope: platform
  name: 'network'
  params: { name: name, location: region, tags: allTags, vnet: vnet, vnetPrefix: vnetPrefix, probes: hasWays }
}

module quota 'modules/quota.bicep' = {
  name: 'quota-${name}'
  params: { name: name, appPrincipal: identity.outputs.appPrincipal }
}

module subnetRole 'modules/subnetrole.bicep' = {
  scope: resourceGroup(subnetGroup.subscription, subnetGroup.name)
  name: 'subnetRole-${name}'
  dependsOn: [network]
  params: {
    name: name
    subnetId: nodesSubnet
    appPrincipal: identity.outputs.appPrincipal
  }
}

module guardRole 'modules/guardrole.bicep' = if (hasWays) {
  scope: resourceGroup(guardGroup.subscription, guardGroup.name)
  name: 'guardRole-${name}'
  dependsOn: [network]
  params: { name: name, guardId: guard, appPrincipal: identity.outputs.appPrincipal }
}

module vnetRole 'modules/vnetrole.bicep' = if (hasWays) {
  scope: resourceGroup(subnetGroup.subscription, subnetGroup.name)
  name: 'vnetRole-${name}'
  dependsOn: [network]
  params: { name: name, subnetId: nodesSubnet, appPrincipal: identity.outputs.appPrincipal }
}

module balancerRole 'modules/balancerrole.bicep' = if (hasWays) {
  scope: nodes
  name: 'balancerRole'
  params: { name: name, appPrincipal: identity.outputs.appPrincipal }
}

module serviceBus 'modules/servicebus.bicep' = {
  scope: platform
  name: 'serviceBus'
  params: {
    name: 'sb-${unique}'
    location: region
    tags: allTags
    appPrincipal: identity.outputs.appPrincipal
    nodePrincipal: identity.outputs.nodePrincipal
    users: users
    workspaceId: monitor.outputs.workspaceId
  }
}

module host 'modules/host.bicep' = {
  scope: resourceGroup(hostGroup.subscription, hostGroup.name)
  name: 'host-${name}'
  params: {
    account: hostAccount
    create: empty(existingHostAccountId)
    location: region
    tags: allTags
    sku: storageSku
    appPrincipal: identity.outputs.appPrincipal
    nodePrincipal: identity.outputs.nodePrincipal
    deployers: deployers
  }
}

module share 'modules/share.bicep' = {
  scope: resourceGroup(shareGroup.subscription, shareGroup.name)
  name: 'share-${name}'
  params: {
    account: shareAccount
    create: empty(existingShareAccountId)
    location: region
    tags: allTags
    sku: storageSku
    share: shareName
    auth: shareAuth
    nodePrincipal: identity.outputs.nodePrincipal
  }
}

module secrets 'modules/vault.bicep' = {
  scope: resourceGroup(vaultGroup.subscription, vaultGroup.name)
  name: 'vault-${name}'
  params: {
    vault: vault
    create: empty(existingVaultId)
    recover: recoverVault
    location: region
    tags: allTags
    appPrincipal: identity.outputs.appPrincipal
    nodePrincipal: identity.outputs.nodePrincipal
    shareAccountId: share.outputs.accountId
    secretName: '${name}-share-key'
    workspaceId: monitor.outputs.workspaceId
  }
}

module doors 'modules/doors.bicep' = if (interactive) {
  scope: platform
  name: 'doors'
  params: {
    relay: 'relay-${unique}'
    vault: keysVault
    recover: recoverKeys
    name: name
    location: region
    tags: allTags
    appPrincipal: identity.outputs.appPrincipal
    workspaceId: monitor.outputs.workspaceId
  }
}

module nodeRoles 'modules/nodes.bicep' = {
  scope: nodes
  name: 'nodeRoles'
  params: {
    name: name
    appPrincipal: identity.outputs.appPrincipal
    nodePrincipal: identity.outputs.nodePrincipal
  }
}

module images 'modules/gallery.bicep' = if (gallery) {
  scope: platform
  name: 'images'
  params: { name: galleryName, location: region, tags: allTags, appPrincipal: identity.outputs.appPrincipal }
}

module imageRole 'modules/imagerole.bicep' = if (isOwnImage) {
  scope: resourceGroup(
    isOwnImage ? split(image, '/')[2] : subscription().subscriptionId,
    isOwnImage ? split(image, '/')[4] : name
  )
  name: 'imageRole-${name}'
  params: { image: image, appPrincipal: identity.outputs.appPrincipal }
}

module budget 'modules/budget.bicep' = if (budgetPerMonth > 0 && !empty(budgetEmails)) {
  scope: nodes
  name: 'budget'
  params: { name: name, amount: budgetPerMonth, start: firstMonth, emails: budgetEmails }
}

module alerts 'modules/alerts.bicep' = if (!empty(alertEmails)) {
  scope: platform
  name: 'alerts'
  params: {
    name: name
    tags: allTags
    namespaceId: serviceBus.outputs.id
    insightsId: monitor.outputs.insightsId
    emails: alertEmails
  }
}

// Last, so that every right and every row's table is there when the app starts.
module functions 'modules/functions.bicep' = {
  scope: platform
  name: 'functions'
  dependsOn: [quota, nodeRoles, subnetRole, imageRole, guardRole, vnetRole, balancerRole]
  params: {
    name: 'fn-${unique}'
    location: region
    tags: allTags
    identityId: identity.outputs.appId
    identityClient: identity.outputs.appClient
    hostAccount: hostAccount
    blobEndpoint: host.outputs.blobEndpoint
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    alwaysReady: alwaysReady
    shareAccount: shareAccount
    share: shareName
    shareKeyUrl: secrets.outputs.shareKeyUrl
    insightsConnection: monitor.outputs.connectionString
    publicUrl: publicUrl
    settings: {
      ServiceBusConnection__fullyQualifiedNamespace: serviceBus.outputs.host
      ServiceBusConnection__credential: 'managedidentity'
      ServiceBusConnection__clientId: identity.outputs.appClient
      TablesConnection__endpoint: host.outputs.tableEndpoint
      AZURE_SUBSCRIPTION_ID: subscription().subscriptionId
      AZURE_RESOURCE_GROUP: nodes.name
      AZURE_LOCATION: region
      JOBS_QUEUE: 'jobs'
      POOLS_QUEUE: 'pools'
      POOL_EVENTS_QUEUE: 'pool-events'
      NODE_EVENTS_QUEUE: 'node-events'
      WORK_QUEUE: 'work'
      REJECTED_QUEUE: 'rejected'
      RECONCILE_SCHEDULE: '0 * * * * *'
      NIGHTLY_SCALE_DOWN: '0 0 * * * *'
      RECORD_USAGE_SCHEDULE: '30 */5 * * * *'
      WATCH_BUDGETS_SCHEDULE: '10 */5 * * * *'
      // Each minute and not more often, so that an idle month stays within what is free.
      COMMIT_STATUS_SCHEDULE: '15 * * * * *'
      // Azure's price list changes on few days a month.
      REFRESH_PRICES_SCHEDULE: '0 17 3 * * *'
      DSVM_DEPLOYED_AT: deployedAt
      DSVM_SUBNET_ID: nodesSubnet
      DSVM_NODE_IDENTITY_ID: identity.outputs.nodeId
      DSVM_NODE_CLIENT_ID: identity.outputs.nodeClient
      DSVM_NODE_PUBLIC_IP: nodePublicIp ? 'true' : 'false'
      DSVM_SSH_PUBLIC_KEY: sshPublicKey
      DSVM_IMAGE: image
      DSVM_SECURITY_TYPE: securityType
      DSVM_ZONES: join(zones, ',')
      DSVM_PROXIMITY_GROUP_ID: proximityGroupId
      DSVM_AGENT_URL: empty(agentSha256) ? '' : '${host.outputs.blobEndpoint}/agent/${agentSha256}'
      DSVM_AGENT_SHA256: agentSha256
      DSVM_SHARE_ACCOUNT: shareAccount
      DSVM_SHARE_NAME: shareName
      DSVM_SHARE_AUTH: shareAuth
      DSVM_RELAY: interactive ? doors!.outputs.relayUrl : ''
      DSVM_RELAY_GROUP: interactive ? platform.name : ''
      DSVM_RELAY_LISTEN_KEY: interactive ? '@Microsoft.KeyVault(SecretUri=${doors!.outputs.listenKeyUrl})' : ''
      DSVM_RELAY_SEND_KEY: interactive ? '@Microsoft.KeyVault(SecretUri=${doors!.outputs.sendKeyUrl})' : ''
      DSVM_WAYS_FROM: join(waysFrom, ',')
      DSVM_NETWORK_GUARD: guard
      DSVM_SSH_CA: interactive ? doors!.outputs.authorityUrl : ''
      DSVM_TENANT: signInTenant
      DSVM_AUDIENCE: signInAudience
      DSVM_ISSUER: signInIssuer
      DSVM_ROLES: roles
      DSVM_DOOR_CERTIFICATE: doorCertificate
      DSVM_KEY_ROLE: keyRole
      DSVM_SHARE_KEY_URL: shareAuth == 'key' ? secrets.outputs.shareKeyUrl : ''
    }
    extraSettings: extraSettings
  }
}

@description('Where the API and the page are.')
output functionUrl string = functions.outputs.url
output functionAppName string = functions.outputs.name
@description('Prints the key that programs and the command line use.')
output functionKeyCommand string = 'az functionapp keys list --subscription ${subscription().subscriptionId} --resource-group ${name} --name ${functions.outputs.name} --query functionKeys.default --output tsv'
output platformResourceGroup string = name
output nodesResourceGroup string = nodes.name
output serviceBusNamespace string = serviceBus.outputs.host
output tablesEndpoint string = host.outputs.tableEndpoint
output hostAccount string = hostAccount
output appContainerUrl string = '${host.outputs.blobEndpoint}/app'
@description('The agent belongs here, under its SHA-256.')
output agentContainerUrl string = '${host.outputs.blobEndpoint}/agent'
output shareAccount string = shareAccount
output shareAccountId string = share.outputs.accountId
output shareName string = shareName
output vaultName string = vault
output nodeIdentityId string = identity.outputs.nodeId
output nodeIdentityClientId string = identity.outputs.nodeClient
output appIdentityId string = identity.outputs.appId
output subnetId string = nodesSubnet
output galleryId string = gallery
  ? resourceId(subscription().subscriptionId, name, 'Microsoft.Compute/galleries', galleryName)
  : ''
@description('The roles that were made; they stay when resource groups go, and are to be deleted by name.')
output customRoleIds array = concat(
  [quota.outputs.roleId, subnetRole.outputs.roleId, nodeRoles.outputs.roleId],
  interactive ? [doors!.outputs.roleId] : [],
  hasWays ? [guardRole!.outputs.roleId, vnetRole!.outputs.roleId, balancerRole!.outputs.roleId] : []
)
output idleCost string = 'About 10 US dollars a month while no node lives: Service Bus Standard 10; storage, logs and the vault below 1; each function that is always ready 5 at 512 MB. A node costs its VM, its disk and 0.005 an hour for its address; one with a session 0.013 to 0.027 an hour for the relay, and 1 a GB beyond 5 a month.'
