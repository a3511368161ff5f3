package service_test

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/way"
	"dsvmpools/shared/wire"
)

// The owner of a session gets the ways of the pool's document, in its order, as far as the
// node can be reached by them.
func TestWaysOfTheCertificate(t *testing.T) {
	t.Parallel()
	good := protocol.Listens{Public: "20.1.2.3:443", Inside: "10.1.0.4:443"}
	for _, c := range []struct {
		name, access string
		listens      *protocol.Listens
		features     []string
		want         []string
	}{
		{"by default", ``, &good, []string{protocol.FeatureWays}, []string{"relay"}},
		{"in its order", `"access":["direct","relay"],`, &good, []string{protocol.FeatureWays}, []string{"direct 20.1.2.3:443", "relay"}},
		{"the relay first", `"access":["relay","direct"],`, &good, []string{protocol.FeatureWays}, []string{"relay", "direct 20.1.2.3:443"}},
		{"without an address of its own", `"access":["direct","relay"],`, &protocol.Listens{Inside: "10.1.0.4:443"}, []string{protocol.FeatureWays}, []string{"relay"}},
		{"an address of the platform", `"access":["direct","relay"],`, &protocol.Listens{Public: "169.254.169.254:80", Inside: "10.1.0.4:443"},
			[]string{protocol.FeatureWays}, []string{"relay"}},
		{"an agent of an earlier release", `"access":["direct","relay"],`, nil, nil, []string{"relay"}},
		{"the balancer", `"access":["balancer","direct"],`, &good, []string{protocol.FeatureWays},
			[]string{"balancer " + apptest.Balancer, "direct 20.1.2.3:443"}},
		{"no way at all", `"access":["direct"],`, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			app := apptest.New(t, apptest.WithDoors(t))
			if err := app.Apply(t.Context(), `{`+c.access+strings.TrimPrefix(labPool, `{`)); err != nil {
				t.Fatal(err)
			}
			s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
			if err != nil {
				t.Fatal(err)
			}
			ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey},
				Features: append(c.features, protocol.FeatureSession), Listens: c.listens}
			if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Ready: ready}); err != nil {
				t.Fatal(err)
			}
			given := begin(t, app, "lab-0", app.Bus.TakeWork(protocol.SessionID("lab", "lab-0")))
			cert, err := app.Sessions.Certificate(as(t, ann), s.ID, annsKey)
			if len(c.want) == 0 {
				if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "no way of `access`") {
					t.Errorf("got %+v, %v", cert.Doors, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range cert.Doors {
				got = append(got, strings.TrimSpace(d.Kind+" "+d.Address))
				if d.Kind == wire.DoorRelay {
					continue
				}
				w, err := way.Read(d.Token, []ed25519.PublicKey{way.ReadKey(given.TicketKey)}, app.Clock.Now())
				want := way.Way{For: way.SSH, Session: s.ID, Expires: app.Clock.Now().Add(15 * time.Minute).Unix()}
				if d.Kind == wire.DoorBalancer { // which leads to any node
					want.Inside = good.Inside
				}
				if err != nil || w != want || d.URL != "" {
					t.Errorf("the way is %+v, %v, want %+v", w, err, want)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
