package tables

import (
	"encoding/xml"
	"net/http"
	"strings"
	"unicode/utf8"

	"dsvmpools/local/disk"
)

// Limits of the stored access policies of a table.
const (
	maxPolicies    = 5
	maxPolicyID    = 64 // characters
	maxPolicyBytes = 64 << 10
	tableRights    = "raud"
)

// policiesPrefix begins the keys of stored access policies in the meta bucket.
const policiesPrefix = "acl:"

// accessPolicy is a stored access policy: what a signature that names it may do.
type accessPolicy struct {
	ID         string
	Start      string
	Expiry     string
	Permission string
}

// policiesXML is the form in which policies are sent and stored.
type policiesXML struct {
	XMLName  xml.Name    `xml:"SignedIdentifiers"`
	Policies []policyXML `xml:"SignedIdentifier"`
}

type policyXML struct {
	ID     *string   `xml:"Id"`
	Policy *termsXML `xml:"AccessPolicy"`
}

type termsXML struct {
	Start      string `xml:",omitempty"`
	Expiry     string `xml:",omitempty"`
	Permission string `xml:",omitempty"`
}

// check reports whether the policies keep the limits.
func (p *policiesXML) check() bool {
	seen := map[string]bool{}
	for _, one := range p.Policies {
		if one.ID == nil || *one.ID == "" || utf8.RuneCountInString(*one.ID) > maxPolicyID || seen[*one.ID] {
			return false
		}
		seen[*one.ID] = true
		if one.Policy == nil {
			continue
		}
		for _, t := range []string{one.Policy.Start, one.Policy.Expiry} {
			if _, ok := readTime(t); t != "" && !ok {
				return false
			}
		}
		if strings.Trim(one.Policy.Permission, tableRights) != "" {
			return false
		}
	}
	return len(p.Policies) <= maxPolicies
}

// accessPolicies reads and sets the policies of a table.
func (s *Server) accessPolicies(r *request) (reply, *failure) {
	if r.operation == getPolicies {
		stored, bad := s.storedPolicies(r.table)
		if bad != nil {
			return reply{}, bad
		}
		return xmlReply(stored)
	}
	var set policiesXML
	if len(r.body) > maxPolicyBytes || len(r.body) > 0 && xml.Unmarshal([]byte(r.body), &set) != nil || !set.check() {
		return reply{}, errXML
	}
	body, err := xml.Marshal(set)
	if err != nil {
		return reply{}, internalFailure(err)
	}
	err = s.db.Update(func(tx *disk.Tx) error {
		if tx.Bucket(bucketOf(r.table)) == nil {
			return errNoTable
		}
		return tx.Bucket(metaBucket).Put(policiesKey(r.table), body)
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	return reply{status: http.StatusNoContent}, nil
}

func policiesKey(table string) []byte { return []byte(policiesPrefix + strings.ToLower(table)) }

func (s *Server) storedPolicies(table string) (p policiesXML, bad *failure) {
	err := s.db.View(func(tx *disk.Tx) error {
		if tx.Bucket(bucketOf(table)) == nil {
			return errNoTable
		}
		if stored := tx.Bucket(metaBucket).Get(policiesKey(table)); stored != nil {
			return xml.Unmarshal(stored, &p)
		}
		return nil
	})
	if err != nil {
		return p, internalFailure(err)
	}
	return p, nil
}

// policiesOf are a table's policies for checking a signature.
func (s *Server) policiesOf(table string) (out []accessPolicy, bad *failure) {
	stored, bad := s.storedPolicies(table)
	for _, p := range stored.Policies {
		one := accessPolicy{ID: *p.ID}
		if p.Policy != nil {
			one.Start, one.Expiry, one.Permission = p.Policy.Start, p.Policy.Expiry, p.Policy.Permission
		}
		out = append(out, one)
	}
	return out, bad
}

// xmlReply answers with a document.
func xmlReply(document any) (reply, *failure) {
	body, err := xml.Marshal(document)
	if err != nil {
		return reply{}, internalFailure(err)
	}
	return reply{status: http.StatusOK, format: "application/xml", body: append([]byte(xml.Header), body...)}, nil
}
