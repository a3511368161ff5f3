// The nodes' network: nothing comes in but what nodes send each other, and the way
// out is the public address of each node (or the network of whoever brings one). The app adds
// rules while people have sessions that they reach beside the relay. A deployment removes them,
// and the app puts them back.
param name string
param location string
param tags object
param vnet string
param vnetPrefix string
@description('Load balancers may look whether nodes answer.')
param probes bool

// 4,091 addresses.
var nodesPrefix = cidrSubnet(vnetPrefix, 20, 0)

var allowProbes = {
  name: 'allow-probes'
  properties: {
    description: 'Load balancers look whether the doors of nodes answer.'
    priority: 3910
    direction: 'Inbound'
    access: 'Allow'
    protocol: 'Tcp'
    sourceAddressPrefix: 'AzureLoadBalancer'
    sourcePortRange: '*'
    destinationAddressPrefix: nodesPrefix
    destinationPortRange: '443'
  }
}

resource guard 'Microsoft.Network/networkSecurityGroups@2025-07-01' = {
  name: 'nsg-${name}'
  location: location
  tags: tags
  properties: {
    securityRules: concat(probes ? [allowProbes] : [], [
      {
        name: 'allow-nodes'
        properties: {
          description: 'The processes of a job on several nodes reach each other.'
          priority: 3900
          direction: 'Inbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefix: nodesPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: nodesPrefix
          destinationPortRange: '*'
        }
      }
      {
        name: 'deny-all'
        properties: {
          description: 'Nothing else comes in. Nobody logs in to a node.'
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ])
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-07-01' = {
  name: vnet
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [vnetPrefix] }
    subnets: [
      {
        name: 'nodes'
        properties: {
          addressPrefix: nodesPrefix
          // Said openly, since it is the default of new networks alone.
          defaultOutboundAccess: false
          networkSecurityGroup: { id: guard.id }
          // Traffic to the share stays inside Azure and costs nothing.
          serviceEndpoints: [{ service: 'Microsoft.Storage' }]
        }
      }
    ]
  }
}
