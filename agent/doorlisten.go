package agent

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/agent/door"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// Where the door of the node listens by TCP, for pools that have other ways than the relay. It
// does as long as a session with such a way is there.

const (
	defaultDoorListen = ":443" // networks let it out
	noDoorListen      = "off"
	anyPort           = "0"
	// balancerVersion is that of the metadata's document that has the public address of a node;
	// the document of the instance lacks addresses of the Standard SKU.
	// Source: https://learn.microsoft.com/azure/load-balancer/howto-load-balancer-imds.
	balancerVersion = "2020-10-01"
	// publicTries is how often the document is asked for, and publicPause the time in between:
	// it may come some seconds after the node.
	publicTries = 3
	publicPause = time.Second
)

// checkDoorListen says what is wrong with DSVM_DOOR_LISTEN.
func checkDoorListen(address string) error {
	if address == noDoorListen {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil && (n > 0 || port == anyPort) {
		if _, bad := netip.ParseAddr(host); host == "" || bad == nil {
			return nil
		}
	}
	return fault.New(fault.Invalid, "DSVM_DOOR_LISTEN", "DSVM_DOOR_LISTEN is %.60q; write :PORT, IP:PORT or %s", address, noDoorListen)
}

// doorAddress is where the node's door listens, and where the doors of other nodes find it; "" =
// it does not listen. A port that the machine has chosen stays, since sessions outlive the agent.
func doorAddress(cfg Config) (listen, inside string, err error) {
	if cfg.DoorListen == noDoorListen || cfg.DoorListen == "" {
		return "", "", nil
	}
	host, port, err := net.SplitHostPort(cfg.DoorListen)
	if err != nil {
		return "", "", err
	}
	ip, err := netip.ParseAddr(cmp.Or(host, cfg.Address, outwardAddress()))
	if err == nil && ip.IsUnspecified() {
		ip, err = netip.ParseAddr(cmp.Or(cfg.Address, outwardAddress()))
	}
	if err != nil {
		return "", "", errors.New("the node does not know its address; set DSVM_NODE_ADDRESS to an IP address")
	}
	if port == anyPort {
		if port, err = keepPort(filepath.Join(cfg.InstanceDir, "doors"), host); err != nil {
			return "", "", err
		}
	}
	return net.JoinHostPort(host, port), net.JoinHostPort(ip.String(), port), nil
}

// keepPort is the port that the door had in an earlier life, or one that is free now.
func keepPort(dir, host string) (string, error) {
	path := filepath.Join(dir, "port")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	kept := strings.TrimSpace(string(text))
	if n, err := strconv.ParseUint(kept, 10, 16); err == nil && n > 0 && (door.Lives(dir) || freePort(host, kept) == kept) {
		return kept, nil
	}
	port := freePort(host, anyPort)
	if port == "" {
		return "", errors.New("no port is free on the address of DSVM_DOOR_LISTEN")
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	return port, writeDurably(path, port)
}

// freePort listens for a moment, and returns at which port it could; "" = at none.
func freePort(host, port string) string {
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return ""
	}
	defer l.Close()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// webBase is the first part of the path below which browsers find JupyterLab at a balancer: the
// same on all nodes of a pool. "" = they come by the relay, or not at all.
func (s *sessions) webBase(of *protocol.Session) string {
	isByRelay := of.Door != nil && of.Door.WebURL != ""
	if isByRelay || s.doorListen == "" || !slices.Contains(of.Ways, protocol.WayBalancer) {
		return ""
	}
	return s.cfg.Pool
}

// listens says where the door of the node listens, for its pool; nil = it does not. It asks
// the metadata endpoint for the node's public address.
func (s *sessions) listens(ctx context.Context) *protocol.Listens {
	if s.doorInside == "" {
		return nil
	}
	out := &protocol.Listens{Inside: s.doorInside}
	at, err := netip.ParseAddrPort(s.doorInside)
	switch {
	case err != nil:
	case at.Addr().IsLoopback(): // people are on this machine
		out.Public = s.doorInside
	case s.cfg.Metadata != "":
		if public := s.publicAddress(ctx, at.Addr()); public.IsValid() {
			out.Public = netip.AddrPortFrom(public, at.Port()).String()
		}
	}
	return out
}

// publicAddress is the node's own public address; the zero Addr = it has none.
func (s *sessions) publicAddress(ctx context.Context, private netip.Addr) netip.Addr {
	m := newMetadata(s.cfg.Metadata)
	for try := 1; ; try++ {
		public, err := m.publicAddress(ctx, private)
		if err == nil {
			return public
		}
		if try == publicTries || patience.Wait(ctx, publicPause) != nil {
			s.log.Warn("the metadata do not tell the node's public address, so that nobody comes in by `access: direct`", "error", err.Error())
			return netip.Addr{}
		}
	}
}

// publicAddress asks for the public address of this VM that belongs to a private one. A VM
// without any has no such document.
func (m *metadata) publicAddress(ctx context.Context, private netip.Addr) (public netip.Addr, err error) {
	var document struct {
		LoadBalancer struct {
			Addresses []struct {
				Public  string `json:"frontendIpAddress"`
				Private string `json:"privateIpAddress"`
			} `json:"publicIpAddresses"`
		} `json:"loadbalancer"`
	}
	err = m.ask(ctx, metadataTimeout, http.MethodGet, "loadbalancer", balancerVersion, nil, &document)
	if refused := (statusError{}); errors.As(err, &refused) && refused.status == http.StatusNotFound {
		return public, nil
	}
	if err != nil {
		return public, err
	}
	for _, a := range document.LoadBalancer.Addresses {
		of, err1 := netip.ParseAddr(a.Private)
		front, err2 := netip.ParseAddr(a.Public)
		if err1 == nil && err2 == nil && of == private {
			return front, nil
		}
	}
	return public, nil
}
