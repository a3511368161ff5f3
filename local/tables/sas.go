package tables

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Versions of the service in which the text to sign changed.
const (
	oldestSignature  = "2015-04-05" // the first with address and protocol in it
	scopedSignatures = "2020-12-06" // signatures of an account name an encryption scope since
)

// grant is what a shared access signature lets its bearer do; nil = everything.
// A signature that asks for HTTPS is accepted over plain HTTP, because the
// connection is on loopback.
type grant struct {
	rights string
	types  string // of an account signature: s(ervice), c(ontainer), o(bject)
	table  string // of a table signature: its name in lower case
	keys   span   // of a table signature
}

// need is what an operation asks of a signature: the level for which an account
// signature must hold, and rights, all of them, or for a table's creation any.
type need struct {
	level  string
	rights string
	any    bool
}

var needs = map[operation]need{
	getProperties: {level: "s", rights: "r"},
	setProperties: {level: "s", rights: "w"},
	getStats:      {level: "s", rights: "r"},
	listTables:    {level: "c", rights: "l"},
	createTable:   {level: "c", rights: "cw", any: true},
	deleteTable:   {level: "c", rights: "d"},
	get:           {level: "o", rights: "r"},
	query:         {level: "o", rights: "r"},
	insert:        {level: "o", rights: "a"},
	replace:       {level: "o", rights: "u"},
	merge:         {level: "o", rights: "u"},
	upsert:        {level: "o", rights: "au"},
	remove:        {level: "o", rights: "d"},
}

// allows reports why the bearer must not do something, nil if they may.
func (g *grant) allows(o operation, table string) *failure {
	if g == nil {
		return nil
	}
	n, ok := needs[o]
	switch {
	case !ok || g.table != "" && n.level != "o":
		return errNotGranted
	case g.table != "" && g.table != strings.ToLower(table):
		return errNotGranted
	case g.table == "" && !strings.Contains(g.types, n.level):
		return errType
	}
	has := func(right rune) bool { return strings.ContainsRune(g.rights, right) }
	lacks := func(right rune) bool { return !has(right) }
	if n.any && !strings.ContainsFunc(n.rights, has) || !n.any && strings.ContainsFunc(n.rights, lacks) {
		return errRight
	}
	return nil
}

// covers reports whether a key is in the range of the signature.
func (g *grant) covers(k []byte) bool {
	return g == nil || string(k) >= g.keys.from && g.keys.before(k)
}

// narrow cuts the spans down to the range of the signature.
func (g *grant) narrow(spans []span) []span {
	if g == nil {
		return spans
	}
	return intersect(spans, []span{g.keys})
}

// readSignature checks a shared access signature, of the account or of a table.
func (s *Server) readSignature(r *http.Request, q url.Values) (*grant, *failure) {
	g := &grant{rights: q.Get("sp"), types: q.Get("srt"), table: strings.ToLower(q.Get("tn"))}
	version := q.Get("sv")
	if version < oldestSignature || (g.table == "") == (g.types == "") {
		return nil, errRefused
	}
	common := []string{q.Get("sip"), q.Get("spr"), version}
	var fields []string
	if g.table != "" {
		fields = []string{g.rights, q.Get("st"), q.Get("se"), "/table/" + s.cfg.Account + "/" + g.table, q.Get("si")}
		fields = append(append(fields, common...), q.Get("spk"), q.Get("srk"), q.Get("epk"), q.Get("erk"))
	} else {
		fields = []string{s.cfg.Account, g.rights, q.Get("ss"), g.types, q.Get("st"), q.Get("se")}
		fields = append(append(fields, common...), "")
		if version >= scopedSignatures {
			fields[len(fields)-1] = q.Get("ses")
			fields = append(fields, "")
		}
	}
	if !s.isSigned(strings.Join(fields, "\n"), q.Get("sig")) {
		return nil, errRefused
	}
	g.keys = keysOf(q)
	if g.types != "" && !strings.Contains(q.Get("ss"), "t") {
		return nil, errService
	}
	if !validAddress(q.Get("sip"), r.RemoteAddr) {
		return nil, errAddress
	}
	start, expiry, bad := s.terms(g, q)
	if bad != nil {
		return nil, bad
	}
	return g, validTime(start, expiry, time.Now())
}

// terms are the times of a signature, from the signature or from the policy that
// it names. The policy also gives the grant its rights. No field may be in both.
func (s *Server) terms(g *grant, q url.Values) (start, expiry string, bad *failure) {
	start, expiry = q.Get("st"), q.Get("se")
	if id := q.Get("si"); id != "" && g.table != "" {
		policies, bad := s.policiesOf(g.table)
		if bad != nil {
			return "", "", errRefused
		}
		i := slices.IndexFunc(policies, func(p accessPolicy) bool { return p.ID == id })
		if i < 0 {
			return "", "", errRefused
		}
		for _, t := range []struct{ own, policy *string }{
			{&start, &policies[i].Start}, {&expiry, &policies[i].Expiry}, {&g.rights, &policies[i].Permission},
		} {
			if *t.own != "" && *t.policy != "" {
				return "", "", errTwice
			}
			*t.own += *t.policy
		}
	}
	if expiry == "" || g.rights == "" {
		return "", "", errRefused
	}
	return start, expiry, nil
}

// keysOf is the range of keys that a signature names; both ends are in it.
func keysOf(q url.Values) span {
	var keys span
	if q.Has("spk") {
		keys.from = string(key(q.Get("spk"), q.Get("srk")))
	}
	switch {
	case q.Has("epk") && q.Has("erk"):
		keys.to = string(key(q.Get("epk"), q.Get("erk"))) + "\x00"
	case q.Has("epk"):
		keys.to = q.Get("epk") + "\x01"
	}
	return keys
}

// validAddress reports whether the client's address is the given one, or in the given range.
func validAddress(allowed, remote string) bool {
	if allowed == "" {
		return true
	}
	host, _, _ := net.SplitHostPort(remote)
	from, to, found := strings.Cut(allowed, "-")
	if !found {
		to = from
	}
	low, at, high := net.ParseIP(from).To16(), net.ParseIP(host).To16(), net.ParseIP(to).To16()
	return low != nil && at != nil && high != nil && slices.Compare(low, at) <= 0 && slices.Compare(at, high) <= 0
}

// signatureTimes are the forms of a time in a signature.
var signatureTimes = []string{time.RFC3339Nano, "2006-01-02T15:04Z", "2006-01-02"}

func readTime(text string) (t time.Time, ok bool) {
	for _, form := range signatureTimes {
		if t, err := time.Parse(form, text); err == nil {
			return t, true
		}
	}
	return t, false
}

func validTime(start, expiry string, now time.Time) *failure {
	until, ok := readTime(expiry)
	if !ok || !now.Before(until) {
		return errRefused
	}
	if start == "" {
		return nil
	}
	if from, ok := readTime(start); !ok || now.Before(from) {
		return errRefused
	}
	return nil
}
