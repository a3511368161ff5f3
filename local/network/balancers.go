package network

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"runtime"
	"strings"
)

type addressProperties struct {
	Allocation string `json:"publicIPAllocationMethod"`
	IP         string `json:"ipAddress,omitempty"`
	DNS        struct {
		Label string `json:"domainNameLabel,omitempty"`
		FQDN  string `json:"fqdn,omitempty"`
	} `json:"dnsSettings,omitzero"`
}

var labelForm = regexp.MustCompile(`^[a-z][a-z0-9-]{1,61}[a-z0-9]$`)

// checkAddress refuses a public address that Azure refuses, and gives it its address: one of the
// loopback addresses, which is also its name, since no DNS knows this machine.
func (s *Server) checkAddress(put *resource, isNew bool) error {
	var p addressProperties
	if err := put.properties(&p); err != nil {
		return err
	}
	count := 0
	for key, r := range s.all {
		if !strings.HasPrefix(key, strings.ToLower(kindAddress)+"/") || strings.EqualFold(r.Name, put.Name) {
			continue
		}
		count++
		var of addressProperties
		if err := r.properties(&of); err == nil && p.DNS.Label != "" && of.DNS.Label == p.DNS.Label {
			return invalid("DnsRecordInUse", "DNS record %s is already used by another public IP. You must use a different DNS prefix.",
				p.DNS.Label)
		}
	}
	switch {
	case put.Location == "":
		return invalid("LocationRequired", "The location property is required for this definition.")
	case isNew && count >= s.cfg.Most:
		return invalid("PublicIPCountLimitReached", "Cannot create more than %d public IP addresses for this subscription in this region.",
			s.cfg.Most)
	case !strings.EqualFold(put.SKU["name"], "Standard"):
		return invalid("IPv4BasicSkuPublicIpCountLimitReached",
			"Cannot create more than 0 IPv4 Basic SKU public IP addresses for this subscription in this region.")
	case !strings.EqualFold(p.Allocation, "Static"):
		return invalid("StandardSkuPublicIPAddressesMustBeStatic", "Standard SKU public IP %s must have AllocationMethod set to Static.", put.ID)
	case p.DNS.Label != "" && !labelForm.MatchString(p.DNS.Label):
		return invalid("InvalidDomainNameLabel", "The domain name label %.100s is invalid.", p.DNS.Label)
	}
	p.IP = loopback(s.cfg.Path + put.ID) // two instances on one machine have the same ids
	p.DNS.FQDN = p.IP
	put.Properties["ipAddress"], _ = json.Marshal(p.IP)
	put.Properties["dnsSettings"], _ = json.Marshal(p.DNS)
	return nil
}

// loopback is an address of this machine, made of a text. Systems other than Linux have only one.
func loopback(of string) string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(of)))
	n := h.Sum32()
	return fmt.Sprintf("127.%d.%d.%d", 64+n%64, n>>8&255, 1+n>>16%254)
}

// mayRemoveAddress refuses to remove an address that a balancer has.
func (s *Server) mayRemoveAddress(r *resource) error {
	for key, other := range s.all {
		if !strings.HasPrefix(key, strings.ToLower(kindBalancer)+"/") {
			continue
		}
		var p balancerProperties
		if err := other.properties(&p); err == nil && strings.EqualFold(p.frontAddress(), r.ID) {
			return invalid("PublicIPAddressCannotBeDeleted", "Public IP address %s can not be deleted since it is still allocated to resource %s.",
				r.ID, other.ID)
		}
	}
	return nil
}

type reference struct {
	ID string `json:"id"`
}

type named[P any] struct {
	Name       string `json:"name"`
	Properties P      `json:"properties"`
}

type balancerProperties struct {
	Fronts []named[struct {
		Address *reference `json:"publicIPAddress"`
	}] `json:"frontendIPConfigurations"`
	Backends []named[backendProperties] `json:"backendAddressPools"`
	Probes   []named[struct {
		Protocol string `json:"protocol"`
		Port     int    `json:"port"`
		Interval int    `json:"intervalInSeconds"`
	}] `json:"probes"`
	Rules []named[struct {
		Front       *reference `json:"frontendIPConfiguration"`
		Backend     *reference `json:"backendAddressPool"`
		Probe       *reference `json:"probe"`
		Protocol    string     `json:"protocol"`
		FrontPort   int        `json:"frontendPort"`
		BackendPort int        `json:"backendPort"`
		Idle        int        `json:"idleTimeoutInMinutes"`
	}] `json:"loadBalancingRules"`
}

type backendProperties struct {
	Addresses []named[struct {
		IP      string     `json:"ipAddress"`
		Network *reference `json:"virtualNetwork"`
	}] `json:"loadBalancerBackendAddresses"`
}

// frontAddress is the id of a balancer's public address.
func (p *balancerProperties) frontAddress() string {
	if len(p.Fronts) == 0 || p.Fronts[0].Properties.Address == nil {
		return ""
	}
	return p.Fronts[0].Properties.Address.ID
}

// checkBalancer refuses a balancer that Azure refuses.
func (s *Server) checkBalancer(put *resource) error {
	var p balancerProperties
	if err := put.properties(&p); err != nil {
		return err
	}
	missing := func(id string) error {
		return invalid("InvalidResourceReference", "Resource %.300s referenced by resource %s was not found. "+
			"Please make sure that the referenced resource exists, and that both resources are in the same region.", id, put.ID)
	}
	if address := p.frontAddress(); address != "" {
		if r := s.all[keyOf(kindAddress, path.Base(address))]; r == nil || r.Leaves {
			return missing(address)
		}
	}
	parts := map[string]bool{}
	note := func(kind, name string) { parts[strings.ToLower(put.ID+"/"+kind+"/"+name)] = true }
	for _, f := range p.Fronts {
		note("frontendIPConfigurations", f.Name)
	}
	for _, b := range p.Backends {
		note(kindBackends, b.Name)
		if err := checkBackends(b.Properties); err != nil {
			return err
		}
	}
	for _, b := range p.Probes {
		note("probes", b.Name)
		if b.Properties.Interval < 5 || b.Properties.Port < 1 || b.Properties.Port > 65535 {
			return invalid("InvalidRequestFormat", "Cannot parse the request: a probe has a port and an interval of at least 5 seconds.")
		}
	}
	used := map[string]string{}
	for _, r := range p.Rules {
		of := r.Properties
		for _, to := range []*reference{of.Front, of.Backend, of.Probe} {
			if to == nil || !parts[strings.ToLower(to.ID)] {
				return missing(fmt.Sprint(to))
			}
		}
		if of.FrontPort < 1 || of.FrontPort > 65534 || of.BackendPort < 1 || of.BackendPort > 65535 ||
			of.Idle != 0 && (of.Idle < 4 || of.Idle > 100) {
			return invalid("InvalidRequestFormat", "Cannot parse the request: ports or idleTimeoutInMinutes of the rule %s.", r.Name)
		}
		for code, key := range map[string]string{
			"RulesUseSameFrontendPortProtocolAndIPConfig": fmt.Sprint("front", of.FrontPort, of.Protocol, of.Front.ID),
			"RulesUseSameBackendPortProtocolAndPool":      fmt.Sprint("back", of.BackendPort, of.Protocol, of.Backend.ID),
		} {
			if other := used[key]; other != "" {
				return invalid(code, "Load balancing rules %s and %s use the same port, protocol and configuration.", other, r.Name)
			}
			used[key] = r.Name
		}
	}
	if !strings.EqualFold(put.SKU["name"], "Standard") || put.Location == "" {
		return invalid("LoadBalancerSkuNotAllowed", "A load balancer has a location and the SKU Standard.")
	}
	return nil
}

// checkBackends wants addresses of a network.
func checkBackends(p backendProperties) error {
	for _, a := range p.Addresses {
		if _, err := netip.ParseAddr(a.Properties.IP); err != nil || a.Name == "" || a.Properties.Network == nil {
			return invalid("InvalidRequestFormat", "Cannot parse the request: a backend address has a name, an address and a virtual network.")
		}
	}
	return nil
}

// answerBackends answers calls for the backends of a balancer.
func (s *Server) answerBackends(method string, at where, text []byte) (status int, body any, err error) {
	has := s.all[keyOf(kindBalancer, at.name)]
	if has == nil {
		return 0, nil, refuse(http.StatusNotFound, "ParentResourceNotFound",
			"Failed to perform the operation, since its parent resource %.100s is not there.", at.name)
	}
	var p balancerProperties
	if err := has.properties(&p); err != nil {
		return 0, nil, err
	}
	for i := range p.Backends {
		b := &p.Backends[i]
		switch {
		case !strings.EqualFold(b.Name, at.childs):
			continue
		case method == http.MethodGet:
			return http.StatusOK, b, nil
		case method != http.MethodPut:
			return 0, nil, errNotServed
		}
		put, err := s.read(at, text)
		if err != nil {
			return 0, nil, err
		}
		b.Properties = backendProperties{}
		if err := put.properties(&b.Properties); err != nil {
			return 0, nil, err
		}
		if err := checkBackends(b.Properties); err != nil {
			return 0, nil, err
		}
		if has.Properties[kindBackends], err = json.Marshal(p.Backends); err != nil {
			return 0, nil, err
		}
		return http.StatusOK, b, s.changed(has)
	}
	return 0, nil, refuse(http.StatusNotFound, "NotFound", "Resource %s not found.", at.id)
}
