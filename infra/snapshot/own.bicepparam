// A deployment into a network, accounts and a vault that exist, with all that is optional.
using '../main.bicep'

param name = 'dsvmtesting'
param location = 'westeurope'
param tags = { costCenter: '4711' }
param sshPublicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
param image = '/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/images/providers/Microsoft.Compute/galleries/golden/images/dsvm/versions/1.0.0'
param securityType = 'TrustedLaunch'
param zones = ['1', '2']
param proximityGroupId = '/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/net/providers/Microsoft.Compute/proximityPlacementGroups/near'
param instanceMemoryMB = 2048
param maximumInstances = 100
param alwaysReady = [{ name: 'function:SubmitJob', instanceCount: 1 }]
param nodePublicIp = false
param subnetId = '/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/compute'
param waysFrom = ['203.0.113.0/24']
param networkGuardId = '/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/net/providers/Microsoft.Network/networkSecurityGroups/hub-compute'
param deployers = ['00000000-0000-0000-0000-00000000000d']
param users = ['00000000-0000-0000-0000-00000000000e', '00000000-0000-0000-0000-00000000000f']
param dailyLogCapGb = '0.5'
param storageSku = 'Standard_ZRS'
param shareName = 'team'
param shareAuth = 'identity'
param existingShareAccountId = '/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/teamshare'
param existingHostAccountId = '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/teamapps'
param existingVaultId = '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.KeyVault/vaults/team-vault'
param recoverKeys = true
param signInTenant = '00000000-0000-0000-0000-000000000002'
param signInAudience = '00000000-0000-0000-0000-00000000000a'
param signInIssuer = 'https://login.example.org/v2.0'
param roles = '00000000-0000-0000-0000-00000000000b=user:vision; *=reader'
param keyRole = 'reader'
param gallery = true
param budgetPerMonth = 500
param budgetEmails = ['money@example.org']
param budgetStart = '2026-11-01'
param alertEmails = ['night@example.org', 'day@example.org']
param agentSha256 = '0000000000000000000000000000000000000000000000000000000000000000'
param publicUrl = 'https://pools.example.org'
param extraSettings = { DSVM_KEEP_FILES: '30d' }
param deployedAt = '2026-11-01T00:00:00Z'
