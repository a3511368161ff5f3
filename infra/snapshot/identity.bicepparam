// A deployment that makes everything itself and whose nodes mount the share with their
// identity; its name is the shortest, and it has no interactive pools.
using '../main.bicep'

param name = 'abc'
param location = 'westeurope'
param sshPublicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
param shareAuth = 'identity'
param recoverVault = true
param interactive = false
param deployedAt = '2026-11-01T00:00:00Z'
