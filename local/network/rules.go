package network

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Priorities that a rule may have.
const (
	lowestPriority  = 100
	highestPriority = 4096
)

type ruleProperties struct {
	Priority         int      `json:"priority"`
	Direction        string   `json:"direction"`
	Access           string   `json:"access"`
	Protocol         string   `json:"protocol"`
	Source           string   `json:"sourceAddressPrefix"`
	Sources          []string `json:"sourceAddressPrefixes"`
	SourcePort       string   `json:"sourcePortRange"`
	SourcePorts      []string `json:"sourcePortRanges"`
	Destination      string   `json:"destinationAddressPrefix"`
	Destinations     []string `json:"destinationAddressPrefixes"`
	DestinationPort  string   `json:"destinationPortRange"`
	DestinationPorts []string `json:"destinationPortRanges"`
}

// answerRule answers calls for the rules of a security group.
func (s *Server) answerRule(method string, at where, text []byte) (status int, body any, err error) {
	if !slices.ContainsFunc(s.cfg.Guards, func(name string) bool { return strings.EqualFold(name, at.name) }) {
		return 0, nil, notFound(at)
	}
	kind := kindRule + "/" + at.name
	key := keyOf(kind, at.childs)
	has := s.all[key]
	switch {
	case at.childs == "" && method == http.MethodGet:
		return http.StatusOK, s.list(kind), nil
	case at.childs == "":
		return 0, nil, errNotServed
	case method == http.MethodDelete && has == nil:
		return http.StatusNoContent, nil, nil
	case method == http.MethodDelete:
		return http.StatusAccepted, nil, s.leave(has)
	case method == http.MethodGet && has == nil:
		return 0, nil, refuse(http.StatusNotFound, "NotFound", "Resource %s not found.", at.id)
	case method == http.MethodGet:
		return http.StatusOK, has.view(), nil
	case method != http.MethodPut:
		return 0, nil, errNotServed
	}
	put, err := s.read(at, text)
	if err == nil {
		err = s.checkRule(put, kind, key)
	}
	if err != nil {
		return 0, nil, err
	}
	s.all[key] = put
	status = http.StatusOK
	if has == nil {
		status = http.StatusCreated
	}
	return status, put.view(), s.changed(put)
}

// checkRule refuses a rule that Azure refuses.
func (s *Server) checkRule(put *resource, kind, key string) error {
	var p ruleProperties
	if err := put.properties(&p); err != nil {
		return err
	}
	if p.Priority < lowestPriority || p.Priority > highestPriority {
		return invalid("SecurityRuleInvalidPriority", "Security rule has invalid Priority. Value provided: %d Allowed range %d-%d.",
			p.Priority, lowestPriority, highestPriority)
	}
	for _, f := range []struct {
		field, value string
		allowed      []string
	}{
		{"direction", p.Direction, []string{"inbound", "outbound"}},
		{"access", p.Access, []string{"allow", "deny"}},
		{"protocol", p.Protocol, []string{"tcp", "udp", "icmp", "esp", "ah", "*"}},
	} {
		if !slices.Contains(f.allowed, strings.ToLower(f.value)) {
			return invalid("InvalidRequestFormat", "Cannot parse the request. The value %.50q is not allowed for %s.", f.value, f.field)
		}
	}
	if err := checkPrefixes(put.Name, p.Source, p.Sources); err != nil {
		return err
	}
	if err := checkPrefixes(put.Name, p.Destination, p.Destinations); err != nil {
		return err
	}
	if err := checkPorts(put.Name, p.SourcePort, p.SourcePorts); err != nil {
		return err
	}
	if err := checkPorts(put.Name, p.DestinationPort, p.DestinationPorts); err != nil {
		return err
	}
	count := 0
	for other, r := range s.all {
		if !strings.HasPrefix(other, strings.ToLower(kind)+"/") || other == key {
			continue
		}
		count++
		var of ruleProperties
		if err := r.properties(&of); err == nil && of.Priority == p.Priority && strings.EqualFold(of.Direction, p.Direction) {
			return invalid("SecurityRuleConflict", "Security rule %s conflicts with rule %s. "+
				"Rules cannot have the same Priority and Direction.", put.Name, r.Name)
		}
	}
	if count >= maxRules {
		return invalid("SecurityRuleCountLimitReached", "The security group has %d rules, and may not have more.", count)
	}
	return nil
}

// properties reads the properties of a resource.
func (r *resource) properties(into any) error {
	text, err := json.Marshal(r.Properties)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return invalid("InvalidRequestFormat", "Cannot parse the request: %s.", err)
	}
	return nil
}

// serviceTags are those that a rule here may name, alone.
var serviceTags = []string{"*", "Internet", "VirtualNetwork", "AzureLoadBalancer"}

// checkPrefixes wants one prefix or several, of addresses.
func checkPrefixes(rule, one string, list []string) error {
	if (one == "") == (len(list) == 0) {
		return invalid("SecurityRuleInvalidAddressPrefix", "Security rule %s names one address prefix or a list of them, and not both.", rule)
	}
	if slices.ContainsFunc(serviceTags, func(tag string) bool { return strings.EqualFold(tag, one) }) {
		return nil
	}
	if one != "" {
		list = []string{one}
	}
	for _, p := range list {
		prefix, err := netip.ParsePrefix(p)
		if _, alone := netip.ParseAddr(p); alone != nil && (err != nil || prefix != prefix.Masked()) {
			return invalid("SecurityRuleInvalidAddressPrefix", "Security rule %s has invalid Address prefix. Value provided: %.50s", rule, p)
		}
	}
	return nil
}

// checkPorts wants one range of ports or several.
func checkPorts(rule, one string, list []string) error {
	if (one == "") == (len(list) == 0) {
		return invalid("SecurityRuleInvalidPortRange", "Security rule %s names one port range or a list of them, and not both.", rule)
	}
	if one == "*" {
		return nil
	}
	if one != "" {
		list = []string{one}
	}
	for _, p := range list {
		from, to, isRange := strings.Cut(p, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err != nil || err2 != nil || first > last {
			return invalid("SecurityRuleInvalidPortRange", "Security rule has invalid Port range. Value provided: %.50s.", p)
		}
	}
	return nil
}
