package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// dialTimeout bounds one connection's making: what takes longer does not answer.
const dialTimeout = 30 * time.Second

// DialContext connects as net.Dialer does, but to no address that the guard refuses:
// each one that the name leads to is looked at in the moment in which it is connected
// to. Errors: *RefusedError, else those of net.Dialer.
func (g Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, Control: func(_, to string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		if err != nil || !g.Allows(host, at.Addr()) {
			return errRefused
		}
		return nil
	}}
	c, err := d.DialContext(ctx, network, address)
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		return nil, refused
	}
	return c, err
}

// Client is an HTTP client whose every connection goes through the guard, and that
// follows no redirect: what it sends is a secret for one host. With a proxy in the
// environment (HTTPS_PROXY, NO_PROXY) the proxy connects, and only hosts that are
// addresses by themselves are judged here.
func (g Guard) Client() *http.Client {
	direct := http.DefaultTransport.(*http.Transport).Clone()
	direct.Proxy, direct.DialContext = nil, g.DialContext
	through := http.DefaultTransport.(*http.Transport).Clone()
	return &http.Client{Transport: &transport{guard: g, direct: direct, through: through, proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// transport has two ways, since a proxy's own address is mostly private and is none
// that a stranger has named.
type transport struct {
	guard   Guard
	direct  *http.Transport
	through *http.Transport
	proxy   func(*http.Request) (*url.URL, error)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	proxy, err := t.proxy(r)
	if err == nil && proxy == nil {
		return t.direct.RoundTrip(r)
	}
	if err == nil {
		err = t.guard.Check(r.URL.Hostname())
	}
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return t.through.RoundTrip(r)
}

// Lookup is the first address of a host that may be connected to, for a program that
// connects by itself and must not look the name up again. Errors: *RefusedError, else
// those of net.Resolver.
func (g Guard) Lookup(ctx context.Context, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if g.Allows(host, a) {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, errRefused
}
