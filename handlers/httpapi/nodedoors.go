package httpapi

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"dsvmpools/shared/fault"
)

// longestReason bounds why somebody comes to a node, in bytes: the audit trail has all of it, beside
// the name of the node, however it is written in an address.
const longestReason = 200

// certifyNode signs a key of an operator for coming to a node. The reason is a parameter, so that the
// audit trail has it, also of a request that is refused.
func (s *server) certifyNode(w http.ResponseWriter, r *http.Request) error {
	of, node, err := nodeOf(r)
	if err != nil {
		return err
	}
	if err := checkReason(r.URL.Query().Get("reason")); err != nil {
		return err
	}
	in, done, err := readFields(w, r, "publicKey")
	if err != nil {
		return err
	}
	key := in.String("publicKey", "ssh-ed25519 AAAA...")
	if err := done(); err != nil {
		return err
	}
	certificate, err := s.Nodes.Certificate(r.Context(), of, node, key)
	if err != nil {
		return err
	}
	return writeOK(w, certificate)
}

// checkReason checks that a reason is a short line for people.
func checkReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return fault.New(fault.Invalid, "reason", "`reason` is missing; say in a few words why you come to the node, for the audit trail")
	case len(reason) > longestReason:
		return fault.New(fault.Invalid, "reason", "`reason` has %d bytes; %d are the most", len(reason), longestReason)
	case !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl):
		return fault.New(fault.Invalid, "reason", "`reason` is one line of text, without control characters")
	}
	return nil
}
