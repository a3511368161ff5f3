package service

import (
	"net"
	"net/url"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/way"
)

const (
	// webWayFor is how long a browser's way is good for: as long as the cookie that the door gives.
	webWayFor = 12 * time.Hour
	// noWebPort is the port of SSH, which browsers do not go to
	// (https://fetch.spec.whatwg.org/#port-blocking).
	noWebPort = "22"
	httpsPort = "443"
)

// login is the address at which a browser comes in to a session with a ticket, which is in its
// fragment. The pool has a way for browsers: see WithoutLab.
func (d *Doors) login(head *pool.Head, node *pool.Node, session, ticket string, now time.Time) (string, error) {
	if head.Spec.BrowsersUse() == pool.AccessBalancer {
		return d.loginByBalancer(head, node, session, ticket, now)
	}
	entity := node.Entity(head.Spec.Name)
	if entity == "" {
		return "", fault.New(fault.Conflict, "id", "node %q has no place at the relay yet; try again in a minute", node.Name)
	}
	return d.relay.Login(entity, session, ticket), nil
}

// loginByBalancer is login at the balancer of a pool: whichever node it hits leads on to the
// session's by the way in the address, which opens nothing.
func (d *Doors) loginByBalancer(head *pool.Head, node *pool.Node, session, ticket string, now time.Time) (string, error) {
	host, port, err := net.SplitHostPort(head.Opening.Address)
	switch {
	case err != nil || !way.IsInside(node.Listens.Inside) || !slices.Contains(node.Features, protocol.FeatureWays):
		return "", fault.New(fault.Conflict, "access", "the balancer of pool %q does not lead to node %q yet; try again in a minute",
			head.Spec.Name, node.Name)
	case port == noWebPort:
		return "", fault.New(fault.Conflict, "access", "browsers do not go to port 22 of the balancer of pool %q; "+
			"set DSVM_BALANCER_PORT to 443, which is good for ssh, too, or name `relay` before `balancer` in `access`", head.Spec.Name)
	case port != httpsPort:
		host = net.JoinHostPort(host, port)
	}
	token, err := way.Sign(d.ticketKey, way.Way{
		For:     way.Web,
		Session: session,
		Inside:  node.Listens.Inside,
		Expires: now.Add(webWayFor).Unix(),
	})
	if err != nil {
		return "", err
	}
	at := url.URL{
		Scheme:   "https",
		Host:     host,
		Path:     "/" + head.Spec.Name + "/dsvm/login",
		RawQuery: url.Values{relay.LoginSession: {session}, "way": {token}}.Encode(),
		Fragment: ticket,
	}
	return at.String(), nil
}
