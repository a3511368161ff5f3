package protocol_test

import (
	"testing"

	"dsvmpools/shared/protocol"
)

// The doors of other nodes are led to where a node says that it listens: a node cannot lead
// them to a service of the platform, or out of the network.
func TestListensChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ public, inside, wantPublic, wantInside string }{
		{"20.1.2.3:443", "10.1.0.4:443", "20.1.2.3:443", "10.1.0.4:443"},
		{"", "10.1.0.4:443", "", "10.1.0.4:443"},
		{"127.0.0.1:7", "127.0.0.1:7", "127.0.0.1:7", "127.0.0.1:7"},
		{"", "100.64.1.1:443", "", "100.64.1.1:443"},
		{"[2603::1]:443", "[fd00::1]:443", "[2603::1]:443", "[fd00::1]:443"},
		{"20.1.2.3", "10.1.0.4:443", "", "10.1.0.4:443"},
		{"20.1.2.3:0", "10.1.0.4:443", "", "10.1.0.4:443"},
		{"168.63.129.16.evil.example:443", "10.1.0.4:443", "", "10.1.0.4:443"},
		{"169.254.169.254:80", "10.1.0.4:443", "", "10.1.0.4:443"},
		{"20.1.2.3:443", "169.254.169.254:80", "", ""},
		{"20.1.2.3:443", "168.63.129.16:80", "", ""},
		{"20.1.2.3:443", "0.0.0.0:443", "", ""},
		{"20.1.2.3:443", "20.1.2.3:443", "", ""},
		{"20.1.2.3:443", "10.1.0.4:0", "", ""},
		{"20.1.2.3:443", "[::ffff:10.1.0.4]:443", "", ""},
		{"20.1.2.3:443", "host:443", "", ""},
		{"20.1.2.3:443", "", "", ""},
	} {
		got := (&protocol.Listens{Public: c.public, Inside: c.inside}).Checked()
		if got.Public != c.wantPublic || got.Inside != c.wantInside {
			t.Errorf("%q, %q: got %+v, want %q, %q", c.public, c.inside, got, c.wantPublic, c.wantInside)
		}
	}
	if got := (*protocol.Listens)(nil).Checked(); got != (protocol.Listens{}) {
		t.Errorf("a node without a door listens at %+v", got)
	}
}
