// A deployment that makes everything itself, with the least that can be said.
using '../main.bicep'

param name = 'dsvmtest'
param location = 'westeurope'
param sshPublicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
param agentSha256 = '0000000000000000000000000000000000000000000000000000000000000000'
param deployedAt = '2026-11-01T00:00:00Z'
