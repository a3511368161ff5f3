package service_test

import (
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/service"
)

// A pool whose ways the deployment cannot open is refused when it is applied.
func TestWaysThatADeploymentLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, access string
		change       func(*service.Config)
		want         string
	}{
		{"no network", `["balancer"]`, func(c *service.Config) { c.Network = nil }, "DSVM_WAYS_FROM"},
		{"the relay alone", `["relay"]`, func(c *service.Config) { c.Network = nil }, ""},
		{"no addresses", `["relay","direct"]`, func(c *service.Config) { c.NoAddresses = true }, "DSVM_NODE_PUBLIC_IP"},
		{"no addresses, and a balancer", `["balancer"]`, func(c *service.Config) { c.NoAddresses = true }, ""},
	} {
		app := apptest.New(t, apptest.WithDoors(t), c.change)
		err := app.Apply(t.Context(), `{"access":`+c.access+`,`+strings.TrimPrefix(labPool, `{`))
		if c.want == "" && err != nil || c.want != "" && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
