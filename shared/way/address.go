package way

import "net/netip"

// carriers is the space that carriers share (RFC 6598), which private networks use, too.
var carriers = netip.MustParsePrefix("100.64.0.0/10")

// IsInside reports whether the door of a node may be led to an address, IP:PORT: it is one of a
// private network, or of one machine. Those of the metadata endpoint (169.254.169.254) and of
// Azure's own agent (168.63.129.16) are none, whatever a node says of itself.
func IsInside(address string) bool {
	at, err := netip.ParseAddrPort(address)
	a := at.Addr()
	return err == nil && at.Port() > 0 && !a.Is4In6() && a.Zone() == "" && (a.IsPrivate() || a.IsLoopback() || carriers.Contains(a))
}

// IsPublic reports whether people may be sent to an address, IP:PORT.
func IsPublic(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Port() > 0 && at.Addr().Zone() == "" && (at.Addr().IsGlobalUnicast() || at.Addr().IsLoopback())
}
