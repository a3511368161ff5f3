package service_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/seal"
)

// newDesktop is a lab with a session of ann's on a node whose agent has features.
func newDesktop(t *testing.T, document string, features ...string) (app *apptest.Instance, id string, n int64) {
	t.Helper()
	app = apptest.New(t, apptest.WithDoors(t))
	if err := app.Apply(t.Context(), document); err != nil {
		t.Fatal(err)
	}
	s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey},
		Features: append(protocol.Features(), features...)}
	if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	items := app.Bus.TakeWork(protocol.SessionID("lab", "lab-0"))
	begin(t, app, "lab-0", items)
	return app, s.ID, items[0].N
}

var desktopLab = strings.Replace(labPool, `"users"`, `"sessions":{"desktop":"rdp"},"users"`, 1)

// The way to a desktop is its owner's alone, and the password is sealed by the node for the key
// that asked last.
func TestDesktop(t *testing.T) {
	t.Parallel()
	app, id, n := newDesktop(t, desktopLab, protocol.FeatureDesktop, protocol.FeatureSession)
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]caller.Caller{"bob": bob, "an operator": boss, "a program": {Teams: boss.Teams}} {
		if got, err := app.Sessions.Desktop(as(t, who), id, key.Public()); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if got, err := app.Sessions.Desktop(as(t, ann), id, "no key"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("with no key: got %+v, %v", got, err)
	}
	got, err := app.Sessions.Desktop(as(t, ann), id, key.Public())
	if err != nil || got.Sealed != "" || got.Ticket != "" || len(got.Doors) != 0 {
		t.Fatalf("before the node has answered: got %+v, %v", got, err)
	}
	work := app.Bus.TakeWork(protocol.SessionID("lab", "lab-0"))
	if len(work) != 1 || work[0].Desktop == nil || *work[0].Desktop != (protocol.Desktop{Target: n, SealTo: key.Public()}) {
		t.Fatalf("the node was sent %+v", work)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Second))
	sealed, err := seal.Seal(key.Public(), protocol.DesktopPurpose(id, "ann"), "secret")
	if err != nil {
		t.Fatal(err)
	}
	say := func(of protocol.Sealed) {
		t.Helper()
		if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Session: &protocol.SessionState{N: n, Desktop: &of}}); err != nil {
			t.Fatal(err)
		}
	}
	say(protocol.Sealed{To: key.Public(), Secret: sealed})
	if got, err = app.Sessions.Desktop(as(t, ann), id, key.Public()); err != nil {
		t.Fatal(err)
	}
	if open, err := key.Open(got.Sealed, protocol.DesktopPurpose(id, "ann")); err != nil || open != "secret" || got.User != "ann" {
		t.Errorf("got %+v, which opens as %q, %v", got, open, err)
	}
	if len(got.Doors) != 1 || !strings.HasSuffix(got.Doors[0].URL, "/rdp/"+id) || !strings.Contains(got.Doors[0].Token, "&skn=send") {
		t.Errorf("the doors are %+v", got.Doors)
	}
	payload, _, _ := strings.Cut(got.Ticket, ".")
	body, err := base64.RawURLEncoding.DecodeString(payload)
	var ticket struct{ S, U, F string }
	if err != nil || json.Unmarshal(body, &ticket) != nil || ticket.S != id || ticket.U != "ann" || ticket.F != "rdp" {
		t.Errorf("the ticket is %s, %v", body, err)
	}
	if again, err := app.Sessions.Desktop(as(t, ann), id, key.Public()); err != nil || again.Ticket == got.Ticket {
		t.Errorf("two connections have one ticket: %v", err)
	}

	// A node that could make none says why, once.
	other, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sessions.Desktop(as(t, ann), id, other.Public()); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Second))
	say(protocol.Sealed{To: other.Public(), Fault: "chpasswd is missing"})
	if got, err := app.Sessions.Desktop(as(t, ann), id, other.Public()); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "chpasswd is missing") {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := app.Sessions.Desktop(as(t, ann), id, other.Public()); err != nil || got.Sealed != "" {
		t.Errorf("after that it is not tried again: %+v, %v", got, err)
	}
}

func TestPoolsAndNodesWithoutDesktops(t *testing.T) {
	t.Parallel()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		document string
		features []string
		want     string
	}{
		{labPool, []string{protocol.FeatureDesktop, protocol.FeatureSession}, `pool "lab" has no desktops`},
		{desktopLab, []string{protocol.FeatureSession}, "is an older one, which knows no desktops"},
	} {
		app, id, _ := newDesktop(t, c.document, c.features...)
		if got, err := app.Sessions.Desktop(as(t, ann), id, key.Public()); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %+v, %v; want %s", got, err, c.want)
		}
		if work := app.Bus.TakeWork(protocol.SessionID("lab", "lab-0")); len(work) != 0 {
			t.Errorf("the node was sent %+v", work)
		}
	}
}

// Where another way is preferred, a desktop comes by SSH, which has it; without an SSH server on the node,
// only the relay is left.
func TestDesktopBesideTheRelay(t *testing.T) {
	t.Parallel()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		access   string
		missing  map[string]string
		port     int
		relay    bool
		refusing string
	}{
		"another way":            {access: `["direct"]`, port: 3389},
		"another way before":     {access: `["balancer","relay"]`, port: 3389},
		"the relay before":       {access: `["relay","direct"]`, relay: true},
		"no SSH":                 {access: `["direct","relay"]`, missing: map[string]string{protocol.MissingSSH: "no sshd"}, relay: true},
		"no SSH, and no relay":   {access: `["direct"]`, missing: map[string]string{protocol.MissingSSH: "no sshd"}, refusing: "has no SSH: no sshd"},
		"the relay and no other": {access: `["relay"]`, missing: map[string]string{protocol.MissingSSH: "no sshd"}, relay: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			document := strings.Replace(desktopLab, `"users"`, `"access":`+c.access+`,"users"`, 1)
			app, id, n := newDesktop(t, document, protocol.FeatureDesktop, protocol.FeatureSession, protocol.FeatureWays)
			ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey},
				Features: append(protocol.Features(), protocol.FeatureDesktop, protocol.FeatureSession), Missing: c.missing}
			sealed, err := seal.Seal(key.Public(), protocol.DesktopPurpose(id, "ann"), "secret")
			if err != nil {
				t.Fatal(err)
			}
			if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Ready: ready}); err != nil {
				t.Fatal(err)
			}
			got, err := app.Sessions.Desktop(as(t, ann), id, key.Public())
			if c.refusing != "" {
				if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), c.refusing) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Session: &protocol.SessionState{N: n,
				Desktop: &protocol.Sealed{To: key.Public(), Secret: sealed}}}); err != nil {
				t.Fatal(err)
			}
			got, err = app.Sessions.Desktop(as(t, ann), id, key.Public())
			if err != nil || got.Sealed != sealed || got.Port != c.port || (len(got.Doors) == 1 && got.Ticket != "") != c.relay {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
