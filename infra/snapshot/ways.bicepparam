// A deployment that makes everything itself, with people who come in beside the relay.
using '../main.bicep'

param name = 'dsvmways'
param location = 'westeurope'
param sshPublicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
param waysFrom = ['203.0.113.0/24', '198.51.100.7/32']
param agentSha256 = '0000000000000000000000000000000000000000000000000000000000000000'
param deployedAt = '2026-11-01T00:00:00Z'
