package service_test

import (
	"context"
	"crypto/ed25519"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/way"
)

// balancerAt has balancers at one address.
type balancerAt string

func (b balancerAt) Open(context.Context, string, pool.Network) (address string, after time.Duration, err error) {
	return string(b), 0, nil
}

// A browser comes to the balancer with a ticket, and with a way that any node's door can follow.
func TestLabByTheBalancer(t *testing.T) {
	t.Parallel()
	listens := protocol.Listens{Inside: "10.1.0.4:443"}
	for _, c := range []struct {
		name, access string
		at           balancerAt
		listens      protocol.Listens
		want, says   string
	}{
		{"at its port", `["balancer","relay"]`, "lab.example:443", listens, "https://lab.example/lab/dsvm/login", ""},
		{"at another port", `["direct","balancer"]`, "lab.example:8000", listens, "https://lab.example:8000/lab/dsvm/login", ""},
		{"after the relay", `["relay","balancer"]`, "lab.example:443", listens, "https://lab.servicebus.windows.net/lab-1-web/dsvm/login", ""},
		{"at the port of SSH", `["balancer"]`, "lab.example:22", listens, "", "DSVM_BALANCER_PORT"},
		{"that is not made yet", `["balancer"]`, "", listens, "", "try again in a minute"},
		{"to a service of the platform", `["balancer"]`, "lab.example:443", protocol.Listens{Inside: "169.254.169.254:80"}, "", "try again in a minute"},
		{"without a way for browsers", `["direct"]`, "", listens, "", "forward a port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			app := apptest.New(t, apptest.WithDoors(t), func(conf *service.Config) { conf.Network = c.at })
			if err := app.Apply(t.Context(), `{"access":`+c.access+`,`+strings.TrimPrefix(labPool, `{`)); err != nil {
				t.Fatal(err)
			}
			s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
			if err != nil {
				t.Fatal(err)
			}
			ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey},
				Features: []string{protocol.FeatureSession, protocol.FeatureWays}, Listens: &c.listens}
			if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Ready: ready}); err != nil {
				t.Fatal(err)
			}
			given := begin(t, app, "lab-0", app.Bus.TakeWork(protocol.SessionID("lab", "lab-0")))
			lab, err := app.Sessions.Lab(as(t, ann), s.ID)
			if shown, err := app.Sessions.Session(as(t, ann), s.ID); err != nil || strings.Contains(shown.Missing["jupyter"], "forward a port") != (c.says == "forward a port") {
				t.Errorf("what the session lacks: %v, %v", shown.Missing, err)
			}
			if c.want == "" {
				if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), c.says) || lab.URL != "" {
					t.Errorf("got %q, %v", lab.URL, err)
				}
				return
			}
			at, wrong := url.Parse(lab.URL)
			if err != nil || wrong != nil || !strings.HasPrefix(lab.URL, c.want+"?") || at.Fragment == "" || at.Query().Get("session") != s.ID {
				t.Fatalf("got %q, %v", lab.URL, err)
			}
			if !strings.Contains(c.want, "lab.example") {
				return
			}
			w, err := way.Read(at.Query().Get("way"), []ed25519.PublicKey{way.ReadKey(given.TicketKey)}, app.Clock.Now())
			want := way.Way{For: way.Web, Session: s.ID, Inside: "10.1.0.4:443", Expires: app.Clock.Now().Add(12 * time.Hour).Unix()}
			if err != nil || w != want {
				t.Errorf("the way is %+v, %v, want %+v", w, err, want)
			}
			if given.Door != nil && given.Door.WebURL != "" {
				t.Errorf("the node listens for browsers at the relay, too: %s", given.Door.WebURL)
			}
		})
	}
}
