// Package door refuses what a web page can make a browser send to a server on
// this machine. A page of any site may send requests to loopback: it cannot read
// the answers, but the requests arrive. It may also rename its own site to
// 127.0.0.1 (DNS rebinding), and then reads them too. Browsers always say where
// such a request comes from, in Host, Origin and Sec-Fetch-Site.
//
// This is one check of two: every server also requires its key. A program may send
// any header, so this package never identifies a program.
package door

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Door is what one server lets in.
type Door struct {
	// Hosts are more values of Host that are the server's own, besides loopback's
	// names: host:port, or a host that is reached on its scheme's port. The port
	// behind loopback's names does not matter: no stranger can choose it, and a
	// forwarded port of another machine (ssh -L) is another one.
	Hosts []string
	// Domain, with its first dot, has all hosts below it be the server's own: one that
	// a stranger cannot give out names of. "" = none.
	Domain string
	// AnyHost leaves Host alone, where what stands in front has looked at it.
	AnyHost bool
	// Forwarded has the host that a browser named taken from X-Forwarded-Host,
	// which the proxy in front always sets, as the Functions host does.
	Forwarded bool
	// Pages says that pages of the server's own are to be had: other sites may lead
	// a person there.
	Pages bool
}

// Refusal is why a request is not let in.
type Refusal struct {
	Status int
	Reason string // a sentence for the sender
}

// Check reports why a request is not let in; nil when it is.
func (d Door) Check(r *http.Request) *Refusal {
	if !d.AnyHost && !d.own(r.Host) {
		return &Refusal{http.StatusForbidden, fmt.Sprintf("this server is not %.100q; call it by the address that it has printed", r.Host)}
	}
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if d.Pages && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" &&
		(r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return nil
	}
	switch site {
	case "", "same-origin", "none":
	default:
		return &Refusal{http.StatusForbidden, "web pages of other sites may not call this server"}
	}
	if origin != "" && !d.sameOrigin(r, origin) {
		return &Refusal{http.StatusForbidden, fmt.Sprintf("web pages of %.100q may not call this server", origin)}
	}
	return nil
}

// own reports whether a value of Host is the server's.
func (d Door) own(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if IsLoopback(name) {
		return true
	}
	if d.Domain != "" && strings.HasSuffix(strings.ToLower(host), d.Domain) {
		return true
	}
	return slices.ContainsFunc(d.Hosts, func(own string) bool { return own != "" && strings.EqualFold(own, host) })
}

// IsLoopback reports whether a host, without a port, is this machine itself: localhost, or an
// address of loopback. No stranger can have given out such a name.
func IsLoopback(name string) bool {
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

// sameOrigin reports whether a page at this origin came from the server itself.
func (d Door) sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	host := r.Host
	if forwarded := r.Header.Get("X-Forwarded-Host"); d.Forwarded && forwarded != "" {
		host = forwarded
	}
	return strings.EqualFold(u.Host, host)
}

// PlainBody reports why the body of a request that changes something is not
// taken: it has one of the types that a page may send to any site without being
// asked about it. nil when it is taken.
func PlainBody(r *http.Request) *Refusal {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	// Without a type it is taken: then Check has found no sign of a browser.
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "text/plain", "application/x-www-form-urlencoded", "multipart/form-data":
		return &Refusal{http.StatusUnsupportedMediaType,
			fmt.Sprintf("a body of type %s is not taken here; set Content-Type to what it is, for JSON to application/json", kind)}
	}
	return nil
}

// Write answers with the refusal. What the request still brings is not read.
func (f *Refusal) Write(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(f.Status)
	fmt.Fprintln(w, f.Reason)
}

// Guard has a server answer only what its door lets in, and with plain also only
// bodies that a page cannot send unasked.
func (d Door) Guard(next http.Handler, plain bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why := d.Check(r)
		if why == nil && plain {
			why = PlainBody(r)
		}
		if why != nil {
			why.Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
