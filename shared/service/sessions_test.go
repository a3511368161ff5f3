package service_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

const (
	labPool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},"users":{"names":["A-1"],"groups":["G1"]}}`
	hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICmaMSfDrKa2dIhTp4JydV6fFRvwxNdTNSaFLFk300O"
	annsKey = hostKey
)

var (
	ann = caller.Caller{ID: "a-1", Name: "ann", UID: 200101, Login: "ann@contoso.com", Teams: map[string]caller.Role{"vision": caller.User}}
	bob = caller.Caller{ID: "b-1", Name: "bob", UID: 200102, Login: "bob@contoso.com", Groups: []string{"g1"},
		Teams: map[string]caller.Role{caller.AllTeams: caller.User}}
	boss = caller.Caller{ID: "o-1", Name: "boss", UID: 200103, Teams: map[string]caller.Role{caller.AllTeams: caller.Operator}}
)

func as(t *testing.T, c caller.Caller) context.Context { return caller.With(t.Context(), c) }

// newLab is an instance with an interactive pool.
func newLab(t *testing.T) *apptest.Instance {
	t.Helper()
	app := apptest.New(t, apptest.WithDoors(t))
	if err := app.Apply(t.Context(), labPool); err != nil {
		t.Fatal(err)
	}
	return app
}

// boot has a node come up that takes what waits, and returns what it was sent.
func boot(t *testing.T, app *apptest.Instance, vmid string) []protocol.WorkItem {
	t.Helper()
	ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey},
		Features: append(protocol.Features(), protocol.FeatureSession)}
	if err := app.Report(t.Context(), "lab", vmid, protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	return app.Bus.TakeWork(protocol.SessionID("lab", vmid))
}

// begin makes the session that a node was sent ready.
func begin(t *testing.T, app *apptest.Instance, vmid string, items []protocol.WorkItem) *protocol.Session {
	t.Helper()
	for _, item := range items {
		if item.Assign != nil && item.Assign.Session != nil {
			started := &protocol.Started{N: item.N, At: app.Clock.Now()}
			if err := app.Report(t.Context(), "lab", vmid, protocol.ReportItem{Started: started}); err != nil {
				t.Fatal(err)
			}
			return item.Assign.Session
		}
	}
	t.Fatalf("the node was given no session: %+v", items)
	return nil
}

func TestOpenFindsTheLiveSession(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	first, isNew, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil || !isNew || first.State != wire.SessionWaiting || first.User != "ann" || first.UID != 200101 || first.Team != "vision" {
		t.Fatalf("got %+v, %t, %v", first, isNew, err)
	}
	again, isNew, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil || isNew || again.ID != first.ID {
		t.Errorf("the second time: got %+v, %t, %v", again, isNew, err)
	}
	rejoined, err := app.Sessions.Rejoin(as(t, ann), "lab")
	if err != nil || rejoined.ID != first.ID {
		t.Errorf("rejoin: got %+v, %v", rejoined, err)
	}
	other, isNew, err := app.Sessions.Open(as(t, bob), "lab", "audio")
	if err != nil || !isNew || other.ID == first.ID {
		t.Errorf("bob: got %+v, %t, %v", other, isNew, err)
	}
	all, err := app.Sessions.List(t.Context(), "", "")
	if err != nil || len(all) != 2 || all[0].User != "ann" || all[1].User != "bob" {
		t.Errorf("the list is %+v, %v", all, err)
	}
	some, err := app.Sessions.List(t.Context(), "lab", "bob")
	if err != nil || len(some) != 1 || some[0].ID != other.ID {
		t.Errorf("the list of bob is %+v, %v", some, err)
	}
}

// Two handlers that are asked at once, again and again, make one session.
func TestOpenFromTwoHandlersAtOnce(t *testing.T) {
	t.Parallel()
	var config service.Config
	app := apptest.New(t, apptest.WithDoors(t), func(c *service.Config) { config = *c })
	if err := app.Apply(t.Context(), labPool); err != nil {
		t.Fatal(err)
	}
	second := service.New(config) // another process on the same tables
	var wg sync.WaitGroup
	ids := make([]string, 8)
	made := make([]bool, len(ids))
	for i := range ids {
		use := app.Sessions
		if i%2 == 1 {
			use = second.Sessions
		}
		wg.Go(func() {
			s, isNew, err := use.Open(as(t, ann), "lab", "")
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			ids[i], made[i] = s.ID, isNew
		})
	}
	wg.Wait()
	news := 0
	for i := range ids {
		if ids[i] != ids[0] {
			t.Errorf("call %d got session %s, and call 0 %s", i, ids[i], ids[0])
		}
		if made[i] {
			news++
		}
	}
	if all, err := app.Sessions.List(t.Context(), "lab", ""); err != nil || len(all) != 1 || news != 1 {
		t.Errorf("%d calls made a session; there are %+v, %v", news, all, err)
	}
}

func TestRejoinMakesNothing(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	capacity := func() string {
		pools, err := app.Pools.Pools(t.Context(), "lab")
		if err != nil {
			t.Fatal(err)
		}
		head, err := json.Marshal(pools[0].Head)
		if err != nil {
			t.Fatal(err)
		}
		return string(head)
	}
	before := capacity()
	for range 20 {
		if s, err := app.Sessions.Rejoin(as(t, ann), "lab"); fault.CodeOf(err) != fault.SessionEnded || !strings.Contains(err.Error(), "dsvm connect lab") {
			t.Fatalf("got %+v, %v", s, err)
		}
	}
	if after := capacity(); after != before {
		t.Errorf("rejoin has changed the pool:\n%s\n%s", before, after)
	}
	s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sessions.Stop(as(t, ann), s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sessions.Rejoin(as(t, ann), "lab"); fault.CodeOf(err) != fault.SessionEnded || !strings.Contains(err.Error(), "ended at 2026-03-02T12:00:00Z: stopped by its owner") {
		t.Errorf("after the end: %v", err)
	}
	ended, err := app.Sessions.Session(as(t, ann), s.ID)
	if err != nil || ended.State != wire.SessionEnded || ended.End == nil || ended.End.By != pool.EndUser {
		t.Errorf("it is %+v, %v", ended, err)
	}
	if next, isNew, err := app.Sessions.Open(as(t, ann), "lab", ""); err != nil || !isNew || next.ID == s.ID {
		t.Errorf("another one: %+v, %t, %v", next, isNew, err)
	}
}

func TestWhoMayOpen(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	if err := app.Apply(t.Context(), apptest.PoolDocument); err != nil {
		t.Fatal(err)
	}
	nobody := ann
	nobody.Name = ""
	stranger := bob
	stranger.Groups = []string{"g2"}
	for name, test := range map[string]struct {
		ctx        context.Context
		pool, team string
		code       fault.Code
		says       string
	}{
		"nobody":           {t.Context(), "lab", "", fault.Forbidden, "a session belongs to a person; sign in with `dsvm login`"},
		"a program":        {as(t, caller.Caller{Teams: boss.Teams}), "lab", "", fault.Forbidden, "`dsvm login`"},
		"no account":       {as(t, nobody), "lab", "", fault.Forbidden, "no account"},
		"no member":        {as(t, stranger), "lab", "", fault.Forbidden, "for its members"},
		"another's team":   {as(t, ann), "lab", "audio", fault.Forbidden, `in team "audio"`},
		"no pool":          {as(t, ann), "labs", "", fault.NotFound, `did you mean "lab"?`},
		"no name":          {as(t, ann), "", "", fault.Invalid, "`pool` is missing"},
		"what is no name":  {as(t, ann), "A'B", "", fault.NotFound, "there is no pool"},
		"a pool with jobs": {as(t, ann), "cpu", "", fault.Invalid, "runs jobs"},
	} {
		if s, _, err := app.Sessions.Open(test.ctx, test.pool, test.team); fault.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %+v, %v; want %s with %q", name, s, err, test.code, test.says)
		}
	}
	if all, err := app.Sessions.List(t.Context(), "", ""); err != nil || len(all) != 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
}

// A certificate is signed for the owner alone, and only while the session is ready on a node
// that is not lost.
func TestCertificates(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(when string, who caller.Caller, code fault.Code) {
		t.Helper()
		if got, err := app.Sessions.Certificate(as(t, who), s.ID, annsKey); fault.CodeOf(err) != code {
			t.Errorf("%s: got %+v, %v; want %s", when, got, err, code)
		}
		if got, err := app.Sessions.Lab(as(t, who), s.ID); fault.CodeOf(err) != code {
			t.Errorf("%s: got %+v, %v; want %s", when, got, err, code)
		}
	}
	refused("while it waits", ann, fault.Conflict)
	items := boot(t, app, "lab-0")
	refused("while it starts", ann, fault.Conflict)
	given := begin(t, app, "lab-0", items)
	refused("bob", bob, fault.Forbidden)
	refused("an operator", boss, fault.Forbidden)
	refused("a program", caller.Caller{Teams: boss.Teams}, fault.Forbidden)

	got, err := app.Sessions.Certificate(as(t, ann), s.ID, annsKey)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	cert := key.(*ssh.Certificate)
	if signer := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert.SignatureKey))); len(given.CAs) != 1 || signer != given.CAs[0] {
		t.Errorf("the node trusts %q, and %q has signed", given.CAs, signer)
	}
	if got.Principal != "session:"+s.ID || got.User != "ann" || !got.ValidBefore.Equal(apptest.Noon.Add(15*time.Minute)) ||
		len(got.KnownHosts) != 1 || got.KnownHosts[0] != "lab.dsvm "+hostKey {
		t.Errorf("got %+v", got)
	}
	if len(got.Doors) != 1 || got.Doors[0].Kind != wire.DoorRelay || got.Doors[0].URL != given.Door.URL+"/ssh/"+s.ID ||
		!strings.Contains(got.Doors[0].Token, "&skn=send") || !strings.Contains(given.Door.Token, "&skn=listen") {
		t.Errorf("the doors are %+v, and the node listens at %+v", got.Doors, given.Door)
	}
	checkTicket(t, app, s.ID, given)

	// The node is lost.
	app.Clock.Set(apptest.Noon.Add(time.Hour))
	if err := app.Pools.Tick(t.Context(), "lab", app.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	nodes, err := app.Pools.Pools(t.Context(), "lab")
	if err != nil || nodes[0].Nodes[0].State != pool.NodeLost {
		t.Fatalf("the node is %+v, %v", nodes[0].Nodes[0], err)
	}
	if got, err := app.Sessions.Certificate(as(t, ann), s.ID, annsKey); err == nil {
		t.Errorf("with a lost node: got %+v", got)
	}
}

// checkTicket holds the address of a JupyterLab against what its node knows.
func checkTicket(t *testing.T, app *apptest.Instance, id string, given *protocol.Session) {
	t.Helper()
	lab, err := app.Sessions.Lab(as(t, ann), id)
	if err != nil {
		t.Fatal(err)
	}
	page, text, _ := strings.Cut(lab.URL, "/dsvm/login?session="+id+"#")
	if want := strings.Replace(strings.Replace(given.Door.WebURL, "wss:", "https:", 1), "/$hc/", "/", 1); page != want {
		t.Errorf("the page is %q, and the node listens at %q", page, want)
	}
	public, err := base64.StdEncoding.DecodeString(given.TicketKey)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(text, ".")
	body, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(second)
	if err != nil || !ed25519.Verify(public, body, signature) {
		t.Errorf("the node would not take the ticket %q: %v", text, err)
	}
	var ticket struct {
		S, U, N string
		E       int64
	}
	if err := json.Unmarshal(body, &ticket); err != nil || ticket.S != id || ticket.U != "ann" || ticket.N == "" ||
		ticket.E != apptest.Noon.Add(time.Minute).Unix() {
		t.Errorf("the ticket is %s, %v", body, err)
	}
}

// A session of no team is for operators of all teams alone.
func TestStopASessionOfNoTeam(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	s, _, err := app.Sessions.Open(as(t, bob), "lab", "")
	if err != nil || s.Team != "" {
		t.Fatalf("got %+v, %v", s, err)
	}
	audio := caller.Caller{ID: "c-1", Name: "carl", UID: 200104, Teams: map[string]caller.Role{"audio": caller.Operator}}
	if got, err := app.Sessions.Stop(as(t, audio), s.ID); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("an operator of one team stopped it: %+v, %v", got, err)
	}
	if _, err := app.Sessions.Stop(as(t, boss), s.ID); err != nil {
		t.Error(err)
	}
}

func TestExtendAndStop(t *testing.T) {
	t.Parallel()
	app := newLab(t)
	s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	begin(t, app, "lab-0", boot(t, app, "lab-0"))
	if got, err := app.Sessions.Extend(as(t, bob), s.ID, time.Hour); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("bob extended it: %+v, %v", got, err)
	}
	for _, by := range []time.Duration{0, time.Second, 31 * 24 * time.Hour} {
		if got, err := app.Sessions.Extend(as(t, ann), s.ID, by); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("by %s: %+v, %v", by, got, err)
		}
	}
	got, err := app.Sessions.Extend(as(t, ann), s.ID, 8*time.Hour)
	if err != nil || got.KeepUntil == nil || !got.KeepUntil.Equal(apptest.Noon.Add(8*time.Hour)) {
		t.Errorf("got %+v, %v", got, err)
	}
	if e, err := app.Sessions.Explain(t.Context(), s.ID); err != nil || e.Reason == "" || string(e.State) != string(wire.SessionReady) {
		t.Errorf("explained as %+v, %v", e, err)
	}
	for _, who := range []caller.Caller{bob, {Teams: map[string]caller.Role{"audio": caller.Operator}}} {
		if got, err := app.Sessions.Stop(as(t, who), s.ID); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s stopped it: %+v, %v", who.Name, got, err)
		}
	}
	if got, err := app.Sessions.Stop(as(t, boss), s.ID); err != nil || got.State != wire.SessionEnding {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := app.Sessions.Certificate(as(t, ann), s.ID, annsKey); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("while it ends: %+v, %v", got, err)
	}
	for _, id := range []string{"", "none", "a/b", strings.Repeat("x", 400)} {
		if got, err := app.Sessions.Session(t.Context(), id); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
}
