package pool_test

import (
	"slices"
	"testing"

	"dsvmpools/shared/pool"
)

func TestWaysOfAPool(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		access, ways []string
		relay        bool
		browsers     string
	}{
		{nil, nil, true, "relay"},
		{[]string{"relay"}, nil, true, "relay"},
		{[]string{"direct"}, []string{"direct"}, false, ""},
		{[]string{"direct", "relay", "balancer"}, []string{"direct", "balancer"}, true, "relay"},
		{[]string{"balancer", "relay"}, []string{"balancer"}, true, "balancer"},
	} {
		s := pool.Spec{Access: c.access}
		if got := s.Ways(); !slices.Equal(got, c.ways) || s.UsesRelay() != c.relay || s.BrowsersUse() != c.browsers {
			t.Errorf("%v: got the ways %v, the relay %v, and browsers by %q", c.access, got, s.UsesRelay(), s.BrowsersUse())
		}
	}
}
