package protocol

import "net/netip"

// Listens is where the door of a node listens while a session is there that has Ways. Both are
// an IP address and a port, as in "10.1.0.4:443".
type Listens struct {
	Public string `json:"public,omitempty"` // where people find it; "" = the node has no address of its own
	Inside string `json:"inside"`           // where the doors of other nodes find it
}

// Checked returns what of it a node can have. The doors of other nodes are led to Inside, so
// that it must not name a service of the platform: IsInside says what it may be.
func (l *Listens) Checked() Listens {
	if l == nil {
		return Listens{}
	}
	inside, err := netip.ParseAddrPort(l.Inside)
	if err != nil || !IsInside(inside) {
		return Listens{}
	}
	checked := Listens{Inside: inside.String()}
	public, err := netip.ParseAddrPort(l.Public)
	if err == nil && public.Port() > 0 && public.Addr().IsGlobalUnicast() || IsInside(public) {
		checked.Public = public.String()
	}
	return checked
}

// shared is the space that carriers share (RFC 6598), which private networks use, too.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// IsInside reports whether an address can be that of a node in a private network, or on one
// machine. Those of the metadata endpoint (169.254.169.254) and of Azure's own agent
// (168.63.129.16) are none.
func IsInside(at netip.AddrPort) bool {
	a := at.Addr()
	return at.Port() > 0 && !a.Is4In6() && a.Zone() == "" && (a.IsPrivate() || a.IsLoopback() || shared.Contains(a))
}
