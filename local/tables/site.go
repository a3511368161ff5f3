package tables

import (
	"net/http"
	"strings"
)

// secondarySuffix ends the account's name at the endpoint that is only read.
const secondarySuffix = "-secondary"

// site is how a client addresses the account.
type site struct {
	base      string // URL of the account, with a slash
	secondary bool
}

// locate takes a URL apart in both styles: the account in the host's name, as
// with the service, or in the path, as on one machine.
func (s *Server) locate(host, path string) (at site, rest string, ok bool) {
	if name, domain, found := strings.Cut(host, "."); found && strings.HasPrefix(domain, "table.") {
		at.base = "https://" + host + "/"
		at.secondary = name == s.cfg.Account+secondarySuffix
		return at, strings.TrimPrefix(path, "/"), at.secondary || name == s.cfg.Account
	}
	at.base = s.base
	if rest, ok = strings.CutPrefix(path, "/"+s.cfg.Account); !ok {
		return at, "", false
	}
	rest, at.secondary = strings.CutPrefix(rest, secondarySuffix)
	if rest != "" && rest[0] != '/' {
		return at, "", false
	}
	return at, strings.TrimPrefix(rest, "/"), true
}

// accept turns an HTTP request into a request that may be performed.
func (s *Server) accept(r *http.Request) (request, *failure) {
	req := request{ctx: r.Context(), method: r.Method, query: r.URL.Query(), header: headerOf(r.Header)}
	var ok bool
	var bad *failure
	req.site, req.path, ok = s.locate(r.Host, r.URL.Path)
	if r.TLS != nil && req.site.base == s.base {
		req.site.base = "https://" + r.Host + "/" + s.cfg.Account + "/" // links keep the scheme, and the name that the client verifies
	}
	if req.grant, bad = s.authorize(r, req.query); bad != nil {
		return req, bad
	}
	if req.body, bad = readBody(r); bad != nil {
		return req, bad
	}
	if !ok {
		return req, errNotFound
	}
	req.classify()
	return req, nil
}
