// Package outbound stops connections to private addresses that strangers name. A
// repository, a Git host or a redirect may name any address. The program that connects
// can reach places that the stranger cannot: its own machine, the private network, the
// metadata endpoint. So each address is checked when the program connects to it, after
// its name was looked up. The package knows nothing about Git or jobs.
package outbound

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"dsvmpools/shared/fault"
)

// Setting names what may be reached although it is private.
const Setting = "DSVM_ALLOW_PRIVATE_HOSTS"

// closed are the addresses that are nobody's on the Internet, or the machine's own: of
// the registries of special-purpose addresses of IANA those that are not globally
// reachable, and Azure's own endpoint of a VM, which has a public address but is found
// on the host below.
var closed = prefixes(
	"0.0.0.0/8",
	"10.0.0.0/8",
	"100.64.0.0/10",
	"127.0.0.0/8",
	"169.254.0.0/16",
	"172.16.0.0/12",
	"192.0.0.0/24",
	"192.0.2.0/24",
	"192.88.99.0/24",
	"192.168.0.0/16",
	"198.18.0.0/15",
	"198.51.100.0/24",
	"203.0.113.0/24",
	"224.0.0.0/4",
	"240.0.0.0/4",
	"168.63.129.16/32",
)

// open6 is all that is given out of IPv6; closed6 are the parts of it that are not
// globally reachable. What lies outside of open6 is loopback, link-local, private,
// multicast or unspecified, or has an IPv4 address in it.
var (
	open6   = netip.MustParsePrefix("2000::/3")
	closed6 = prefixes("2001::/23", "2001:db8::/32", "3fff::/20")
)

// carriers have an IPv4 address in them, which is where they lead: at these bytes.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, RFC 4291; :: and ::1 among them
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// Private reports whether an address leads elsewhere than into the Internet: to the
// machine itself, a network around it, several machines at once, or nowhere.
func Private(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return true
	}
	if a = a.Unmap(); a.Is4() {
		return within(closed, a)
	}
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			bytes := a.As16()
			return Private(netip.AddrFrom4([4]byte(bytes[c.at : c.at+4])))
		}
	}
	return !open6.Contains(a) || within(closed6, a)
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Guard says which addresses may be connected to: all public ones, and those that the
// setting names. The zero Guard allows public ones alone.
type Guard struct {
	names    map[string]bool // in small letters
	endings  []string        // ".example.com"
	prefixes []netip.Prefix
}

// maxHosts bounds the setting: a longer list is a mistake, and every connection goes
// through it.
const maxHosts = 100

var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// Parse reads the setting: a list with commas of host names, patterns such as
// *.example.com, addresses and networks such as 10.1.0.0/16. Errors are *fault.Error
// with code Invalid.
func Parse(text string) (Guard, error) {
	var g Guard
	entries := strings.Split(text, ",")
	if len(entries) > maxHosts {
		return Guard{}, fault.New(fault.Invalid, Setting, "%s names %d hosts; name at most %d, or a network such as 10.1.0.0/16",
			Setting, len(entries), maxHosts)
	}
	for _, entry := range entries {
		if entry = strings.ToLower(strings.TrimSpace(entry)); entry == "" {
			continue
		}
		plain := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
		ending, pattern := strings.CutPrefix(entry, "*.")
		if a, err := netip.ParseAddr(plain); err == nil && a.Zone() == "" {
			a = a.Unmap()
			g.prefixes = append(g.prefixes, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(entry); err == nil {
			g.prefixes = append(g.prefixes, p.Masked())
		} else if named := strings.TrimSuffix(ending, "."); !hostName.MatchString(named) || digits(named) {
			return Guard{}, fault.New(fault.Invalid, Setting, "%s has %.60q; write host names without a port, "+
				"patterns such as *.example.com, addresses, or networks such as 10.1.0.0/16, with commas", Setting, entry)
		} else if pattern {
			g.endings = append(g.endings, "."+named)
		} else {
			if g.names == nil {
				g.names = map[string]bool{}
			}
			g.names[named] = true
		}
	}
	return g, nil
}

// digits reports whether a name ends like an address: inet_aton reads 127.1 and
// 0x7f000001 as one, and no top domain looks like it.
func digits(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && (last[0] >= '0' && last[0] <= '9')
}

// named reports whether the setting has a host by its name.
func (g Guard) named(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if g.names[host] {
		return true
	}
	for _, ending := range g.endings {
		if strings.HasSuffix(host, ending) {
			return true
		}
	}
	return false
}

// Allows reports whether an address may be connected to that a host's name has led to.
func (g Guard) Allows(host string, a netip.Addr) bool {
	return !Private(a) || g.named(host) || within(g.prefixes, a.WithZone("").Unmap())
}

// Check refuses a host whose name is an address that must not be connected to, or stands
// for the machine itself. It is for those who leave connecting to a proxy; a name that has
// to be looked up passes.
func (g Guard) Check(host string) error {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		if !g.Allows(host, a) {
			return errRefused
		}
		return nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	itself := name == "localhost" || strings.HasSuffix(name, ".localhost")
	if itself && g.Allows(name, netip.IPv6Loopback()) || itself && g.Allows(name, netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		return nil
	}
	if itself || !hostName.MatchString(name) || digits(name) {
		return errRefused
	}
	return nil
}

// RefusedError is an address that must not be connected to. It does not say which: who
// named it need not learn what a name leads to in here.
type RefusedError struct{}

var errRefused = &RefusedError{}

func (*RefusedError) Error() string {
	return fmt.Sprintf("an address that it leads to is refused, since it is private or the machine's own and %s does not name it", Setting)
}
