package network

import (
	"context"
	"hash/fnv"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
)

// Priorities of the rules of pools. The template's own rules, which let nodes reach each other and
// refuse all else, begin at 3800.
const (
	firstPriority = 1000
	lastPriority  = 3799
)

// rule is a rule of a security group. Azure gives a list of one back as a single value.
type rule struct {
	Name       string         `json:"name,omitempty"`
	Properties ruleProperties `json:"properties"`
}

type ruleProperties struct {
	Description       string   `json:"description,omitempty"`
	Priority          int      `json:"priority"`
	Direction         string   `json:"direction"`
	Access            string   `json:"access"`
	Protocol          string   `json:"protocol"`
	Source            string   `json:"sourceAddressPrefix,omitempty"`
	Sources           []string `json:"sourceAddressPrefixes,omitempty"`
	SourcePort        string   `json:"sourcePortRange,omitempty"`
	Destination       string   `json:"destinationAddressPrefix,omitempty"`
	Destinations      []string `json:"destinationAddressPrefixes,omitempty"`
	DestinationPort   string   `json:"destinationPortRange,omitempty"`
	DestinationPorts  []string `json:"destinationPortRanges,omitempty"`
	ProvisioningState string   `json:"provisioningState,omitempty"`
}

// syncRule has one rule open the doors of nodes: of those that have a session now, to where people
// come from. Without such a node there is no rule.
func (c *Client) syncRule(ctx context.Context, name, of string, nodes []netip.AddrPort) (after time.Duration, err error) {
	var has rule
	at := c.cfg.Guard + "/securityRules/" + name
	isThere, _, err := c.call(ctx, http.MethodGet, at, nil, &has)
	switch {
	case err != nil:
		return 0, err
	case len(nodes) == 0 && !isThere:
		return 0, nil
	case len(nodes) == 0:
		return c.remove(ctx, at, has.Properties.ProvisioningState)
	}
	want := c.ruleFor(of, nodes)
	state := has.Properties.ProvisioningState
	switch {
	case isThere && has.Properties.opensAs(want) && state == "Succeeded":
		return 0, nil
	case isThere && has.Properties.opensAs(want) && state != "Failed":
		return c.cfg.Again, nil // on its way
	case isThere:
		want.Priority = has.Properties.Priority
	default:
		if want.Priority, err = c.freePriority(ctx, name); err != nil {
			return 0, err
		}
	}
	var put rule
	if _, _, err := c.call(ctx, http.MethodPut, at, rule{Properties: want}, &put); err != nil {
		return 0, err
	}
	if put.Properties.ProvisioningState == "Succeeded" {
		return 0, nil
	}
	return c.cfg.Again, nil
}

// ruleFor is the rule that opens nodes, without its priority.
func (c *Client) ruleFor(of string, nodes []netip.AddrPort) ruleProperties {
	to, ports := hosts(nodes)
	want := ruleProperties{
		Description:      "People come in to the nodes of pool " + of + " that have a session. dsvmpools writes and removes this rule.",
		Direction:        "Inbound",
		Access:           "Allow",
		Protocol:         "Tcp",
		SourcePort:       "*",
		Destinations:     to,
		DestinationPorts: ports,
	}
	for _, from := range c.cfg.From {
		want.Sources = append(want.Sources, from.String())
	}
	return want
}

// opensAs reports whether a rule opens the same to the same.
func (p ruleProperties) opensAs(want ruleProperties) bool {
	same := func(one string, list []string, wanted []string) bool {
		if one != "" {
			list = append(slices.Clone(list), one)
		}
		plain := func(list []string) []string {
			list = slices.Clone(list)
			for i := range list {
				list[i] = strings.TrimSuffix(list[i], "/32")
			}
			slices.Sort(list)
			return slices.Compact(list)
		}
		return slices.Equal(plain(list), plain(wanted))
	}
	return strings.EqualFold(p.Access, want.Access) && strings.EqualFold(p.Direction, want.Direction) &&
		strings.EqualFold(p.Protocol, want.Protocol) &&
		same(p.Source, p.Sources, want.Sources) && same(p.Destination, p.Destinations, want.Destinations) &&
		same(p.DestinationPort, p.DestinationPorts, want.DestinationPorts)
}

// freePriority finds a priority that no rule of the group has. Another pool may take it meanwhile:
// then Azure refuses the rule, and the next look finds another one.
func (c *Client) freePriority(ctx context.Context, name string) (int, error) {
	var list struct {
		Value []rule `json:"value"`
	}
	isThere, _, err := c.call(ctx, http.MethodGet, c.cfg.Guard+"/securityRules", nil, &list)
	if err == nil && !isThere {
		err = fault.New(fault.NotFound, "DSVM_NETWORK_GUARD", "the security group of the nodes' subnet is not there; look at DSVM_NETWORK_GUARD")
	}
	if err != nil {
		return 0, err
	}
	taken := map[int]bool{}
	for _, r := range list.Value {
		if strings.EqualFold(r.Properties.Direction, "Inbound") {
			taken[r.Properties.Priority] = true
		}
	}
	const all = lastPriority - firstPriority + 1
	h := fnv.New32a()
	h.Write([]byte(name))
	for i := range all {
		if p := firstPriority + (int(h.Sum32()%all)+i)%all; !taken[p] {
			return p, nil
		}
	}
	return 0, fault.New(fault.NoQuota, "DSVM_NETWORK_GUARD",
		"the security group of the nodes' subnet has no priority left from %d to %d; remove rules from it",
		firstPriority, lastPriority)
}
