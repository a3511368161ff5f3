package way_test

import (
	"testing"

	"dsvmpools/shared/way"
)

// The doors of nodes are led to where a node says that it listens: it cannot lead them to a
// service of the platform, or out of the network.
func TestIsInside(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"10.1.0.4:443": true, "192.168.1.1:7443": true, "127.0.0.1:7": true, "100.64.1.1:443": true, "[fd00::1]:443": true, "[::1]:443": true,
		"169.254.169.254:80": false, "168.63.129.16:80": false, "0.0.0.0:443": false, "20.1.2.3:443": false, "10.1.0.4:0": false, "10.1.0.4": false,
		"[::ffff:10.1.0.4]:443": false, "[fe80::1]:443": false, "[fe80::1%eth0]:443": false, "localhost:443": false, "10.1.0.4:443 ": false, "": false,
		"[2603::1]:443": false, "224.0.0.1:443": false, "10.1.0.4:65536": false,
	} {
		if got := way.IsInside(address); got != want {
			t.Errorf("%q: got %v, want %v", address, got, want)
		}
	}
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"20.1.2.3:443": true, "127.0.0.1:7": true, "[2603::1]:443": true,
		"20.1.2.3:0": false, "20.1.2.3": false, "169.254.169.254:80": false, "0.0.0.0:443": false, "evil.example:443": false, "": false, "[fe80::1%eth0]:443": false,
	} {
		if got := way.IsPublic(address); got != want {
			t.Errorf("%q: got %v, want %v", address, got, want)
		}
	}
}
