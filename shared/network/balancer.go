package network

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/pool"
)

// Names of the parts of a balancer.
const (
	front    = "front"
	backends = "doors"
	probe    = "door"
	ruleDoor = "door"
)

// Minutes that a balancer keeps a connection over which nothing goes, the most that Azure takes,
// and seconds between two looks at a door.
const (
	idleMinutes  = 100
	probeSeconds = 5
)

type reference struct {
	ID string `json:"id"`
}

type state struct {
	ProvisioningState string `json:"provisioningState,omitempty"`
}

// named is a part of a balancer.
type named[P any] struct {
	Name       string `json:"name"`
	Properties P      `json:"properties"`
}

// resource is a resource of a pool.
type resource[P any] struct {
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	SKU        *sku              `json:"sku,omitempty"`
	Properties P                 `json:"properties"`
}

type sku struct {
	Name string `json:"name"`
	Tier string `json:"tier"`
}

type addressProperties struct {
	Allocation string `json:"publicIPAllocationMethod"`
	Version    string `json:"publicIPAddressVersion"`
	DNS        struct {
		Label string `json:"domainNameLabel"`
		FQDN  string `json:"fqdn,omitempty"`
	} `json:"dnsSettings"`
	state
}

type balancerProperties struct {
	Fronts   []named[frontProperties]   `json:"frontendIPConfigurations"`
	Backends []named[backendProperties] `json:"backendAddressPools"`
	Probes   []named[probeProperties]   `json:"probes"`
	Rules    []named[balancing]         `json:"loadBalancingRules"`
	state
}

type frontProperties struct {
	Address reference `json:"publicIPAddress"`
}

type backendProperties struct {
	Network   *reference              `json:"virtualNetwork,omitempty"`
	Addresses []named[backendAddress] `json:"loadBalancerBackendAddresses"`
	state
}

type backendAddress struct {
	Address string     `json:"ipAddress"`
	Network *reference `json:"virtualNetwork,omitempty"`
}

type probeProperties struct {
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
	Seconds  int    `json:"intervalInSeconds"`
	Failures int    `json:"probeThreshold"`
}

type balancing struct {
	Front        reference `json:"frontendIPConfiguration"`
	Backend      reference `json:"backendAddressPool"`
	Probe        reference `json:"probe"`
	Protocol     string    `json:"protocol"`
	FrontPort    int       `json:"frontendPort"`
	BackendPort  int       `json:"backendPort"`
	Distribution string    `json:"loadDistribution"`
	IdleMinutes  int       `json:"idleTimeoutInMinutes"`
	Reset        bool      `json:"enableTcpReset"`
	NoSNAT       bool      `json:"disableOutboundSnat"` // nodes have a way out of their own
}

// syncBalancer makes a pool's balancer with its address, has it lead to the nodes that have a
// session, or removes it. Azure deletes an address only when no balancer has it.
func (c *Client) syncBalancer(ctx context.Context, name, of string, nodes []netip.AddrPort, want pool.Network) (
	address string, after time.Duration, err error,
) {
	var ip resource[addressProperties]
	ipPath, at := c.group+"/providers/Microsoft.Network/publicIPAddresses/"+name, c.group+"/providers/Microsoft.Network/loadBalancers/"+name
	hasIP, _, err := c.call(ctx, http.MethodGet, ipPath, nil, &ip)
	if err != nil || !hasIP && !want.Balancer {
		return "", 0, err // a balancer cannot be there without its address
	}
	var has resource[balancerProperties]
	isThere := false
	if hasIP {
		if isThere, _, err = c.call(ctx, http.MethodGet, at, nil, &has); err != nil {
			return "", 0, err
		}
	}
	switch {
	case isThere && !want.Balancer:
		after, err = c.remove(ctx, at, has.Properties.ProvisioningState)
		return "", max(after, c.cfg.Again), err // and its address later
	case !want.Address:
		after, err = c.remove(ctx, ipPath, ip.Properties.ProvisioningState)
		return "", after, err
	case !hasIP || ip.Properties.ProvisioningState == "Failed":
		ip = resource[addressProperties]{Location: c.cfg.Region, Tags: map[string]string{PoolTag: of}, SKU: &sku{"Standard", "Regional"},
			Properties: addressProperties{Allocation: "Static", Version: "IPv4"}}
		ip.Properties.DNS.Label = name
		_, _, err = c.call(ctx, http.MethodPut, ipPath, ip, nil)
		return "", c.cfg.Again, err
	case ip.Properties.ProvisioningState != "Succeeded":
		return "", c.cfg.Again, nil
	}
	address = net.JoinHostPort(ip.Properties.DNS.FQDN, strconv.Itoa(c.cfg.FrontPort))
	if !want.Balancer {
		return address, 0, nil // the address alone is kept
	}
	switch s := has.Properties.ProvisioningState; {
	case isThere && s != "Succeeded" && s != "Failed":
		return address, c.cfg.Again, nil
	case !isThere || s == "Failed" || !has.Properties.leads(c.cfg.FrontPort, c.backendPort(nodes, &has.Properties)):
		_, _, err = c.call(ctx, http.MethodPut, at, c.balancer(at, ipPath, of, c.backendPort(nodes, &has.Properties)), nil)
		return address, c.cfg.Again, err
	}
	after, err = c.syncBackends(ctx, at, nodes, &has.Properties)
	return address, after, err
}

// backendPort is the port of the nodes' doors. On one machine it is that of the first node, or the
// one that the balancer has while no node is there.
func (c *Client) backendPort(nodes []netip.AddrPort, has *balancerProperties) int {
	switch {
	case c.cfg.DoorPort != 0:
		return c.cfg.DoorPort
	case len(nodes) > 0:
		return int(nodes[0].Port())
	case len(has.Rules) > 0:
		return has.Rules[0].Properties.BackendPort
	}
	return 443
}

// leads reports whether a balancer has the one rule from a port to a port.
func (p *balancerProperties) leads(from, to int) bool {
	return len(p.Rules) == 1 && p.Rules[0].Properties.FrontPort == from && p.Rules[0].Properties.BackendPort == to && len(p.Backends) == 1
}

// balancer is the resource of a balancer that leads nowhere yet. Its backends are addresses, and
// not the scale set's interfaces: a model that names a balancer would have to be written again, and
// would make all nodes outdated, whenever the balancer comes or goes.
func (c *Client) balancer(at, ip, of string, doorPort int) resource[balancerProperties] {
	part := func(kind, name string) reference { return reference{path.Join(at, kind, name)} }
	out := resource[balancerProperties]{Location: c.cfg.Region, Tags: map[string]string{PoolTag: of}, SKU: &sku{"Standard", "Regional"}}
	out.Properties.Fronts = []named[frontProperties]{{front, frontProperties{reference{ip}}}}
	out.Properties.Backends = []named[backendProperties]{{Name: backends, Properties: backendProperties{Addresses: []named[backendAddress]{}}}}
	out.Properties.Probes = []named[probeProperties]{{probe, probeProperties{"Tcp", doorPort, probeSeconds, 1}}}
	out.Properties.Rules = []named[balancing]{{ruleDoor, balancing{
		Front:        part("frontendIPConfigurations", front),
		Backend:      part("backendAddressPools", backends),
		Probe:        part("probes", probe),
		Protocol:     "Tcp",
		FrontPort:    c.cfg.FrontPort,
		BackendPort:  doorPort,
		Distribution: "Default", // by the whole connection: people behind one address are spread
		IdleMinutes:  idleMinutes,
		Reset:        true,
		NoSNAT:       true,
	}}}
	return out
}

// syncBackends has a balancer lead to nodes.
func (c *Client) syncBackends(ctx context.Context, at string, nodes []netip.AddrPort, has *balancerProperties) (time.Duration, error) {
	want, _ := hosts(nodes)
	var now []string
	for _, a := range has.Backends[0].Properties.Addresses {
		now = append(now, a.Properties.Address)
	}
	slices.Sort(now)
	if slices.Equal(now, want) {
		return 0, nil
	}
	network := &reference{c.cfg.Subnet[:strings.LastIndex(c.cfg.Subnet, "/subnets/")]}
	addresses := []named[backendAddress]{}
	for _, host := range want {
		name := "node-" + strings.ReplaceAll(host, ".", "-")
		addresses = append(addresses, named[backendAddress]{name, backendAddress{host, network}})
	}
	_, _, err := c.call(ctx, http.MethodPut, path.Join(at, "backendAddressPools", backends),
		map[string]any{"properties": backendProperties{Addresses: addresses}}, nil)
	return c.cfg.Again, err
}
