package service_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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

// visits is a pool of people with two processes of the app on the same tables. People come, come
// back and ask for certificates, also for what is of others; nodes come up, fall silent and go.
// After each call the rows say whether the answer was right. What the pool decides about sessions
// is in the simulation of people (shared/scheduler), whose mutations spoil this one too.
type visits struct {
	t     *testing.T
	rng   *rand.Rand
	app   *apptest.Instance
	use   []*service.Sessions // of each process
	who   []caller.Caller
	ids   []string                   // of all sessions that were ever opened
	owner map[string]caller.Caller   // of each
	given map[string][]int64         // by VMID: numbers of what a node holds
	ended map[string]map[int64]bool  // by VMID: those that were cancelled
	mute  map[string]bool            // nodes that report nothing any more
	seen  map[string]int             // what has come about
	found func(name, problem string) // a violation
}

func newVisits(t *testing.T, seed uint64) *visits {
	v := &visits{t: t, rng: rand.New(rand.NewPCG(seed, 11)), owner: map[string]caller.Caller{}, given: map[string][]int64{}, ended: map[string]map[int64]bool{}, mute: map[string]bool{},
		seen: map[string]int{}}
	var config service.Config
	v.app = apptest.New(t, apptest.WithDoors(t), func(c *service.Config) { config = *c })
	v.use = []*service.Sessions{v.app.Sessions, service.New(config).Sessions}
	if err := v.app.Apply(t.Context(), `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":3},"idleTimeout":"2m"}`); err != nil {
		t.Fatal(err)
	}
	user := map[string]caller.Role{caller.AllTeams: caller.User}
	v.who = []caller.Caller{
		{ID: "a-1", Name: "ann", UID: 200101, Teams: user}, {ID: "b-1", Name: "bob", UID: 200102, Teams: user},
		{ID: "e-1", Name: "eve", UID: 200103, Teams: user}, boss, {Teams: boss.Teams},
	}
	return v
}

// rows are what is committed now.
func (v *visits) rows() *pool.Partition {
	v.t.Helper()
	part, _, err := v.app.Store.Load(v.t.Context(), "lab")
	if err != nil {
		v.t.Fatal(err)
	}
	return part
}

// job is the row of a live session; nil = it does not live.
func (v *visits) job(part *pool.Partition, id string) *pool.Job {
	i := slices.IndexFunc(part.Jobs, func(j *pool.Job) bool { return j.ID == id })
	if i < 0 {
		return nil
	}
	return part.Jobs[i]
}

// visit is something that somebody does.
func (v *visits) visit() {
	c, of := v.who[v.rng.IntN(len(v.who))], v.use[v.rng.IntN(len(v.use))]
	id, do := "none", v.rng.IntN(10)
	if len(v.ids) > 0 {
		id = v.ids[max(len(v.ids)-1-v.rng.IntN(3), 0)]
	}
	if owner, ok := v.owner[id]; ok && do > 4 && v.rng.IntN(2) == 0 {
		c = owner
	}
	ctx := as(v.t, c)
	switch do {
	case 0, 1:
		s, isNew, err := of.Open(ctx, "lab", "")
		if isNew {
			v.ids = append(v.ids, s.ID)
			v.owner[s.ID] = c
		}
		v.note("open", err)
	case 2, 3, 4:
		before, sessions := v.rows(), len(v.ids)
		s, err := of.Rejoin(ctx, "lab")
		v.note("rejoin", err)
		v.rejoined(before, c, s, err, sessions)
	case 5, 6, 7:
		certificate, err := of.Certificate(ctx, id, annsKey)
		if v.note("certificate", err); err == nil {
			v.certified(c, id, certificate)
		}
	case 8:
		_, err := of.Lab(ctx, id)
		if v.note("ticket", err); err == nil {
			v.entered(c, id, "a ticket")
		}
	default:
		if v.rng.IntN(3) == 0 {
			_, err := of.Stop(ctx, id)
			v.note("stop", err)
		}
	}
}

// note counts what has come about. A fault without a code is none that people cause.
func (v *visits) note(what string, err error) {
	if err == nil {
		v.seen[what]++
		return
	}
	var f *fault.Error
	if !errors.As(err, &f) || f.Code == fault.Internal {
		v.found("error", fmt.Sprintf("%s: %v", what, err))
	}
	v.seen[what+" refused"]++
}

// rejoined checks S9: a rejoin makes no session, and has no more nodes wanted.
func (v *visits) rejoined(before *pool.Partition, c caller.Caller, s wire.Session, err error, sessions int) {
	after := v.rows()
	for _, j := range after.Jobs {
		if v.job(before, j.ID) == nil {
			v.found("S9", fmt.Sprintf("a rejoin of %s has made session %s", c.Name, j.ID))
		}
	}
	if after.Head.Wanted > before.Head.Wanted || len(v.ids) != sessions {
		v.found("S9", fmt.Sprintf("a rejoin of %s has raised what is wanted from %d to %d", c.Name, before.Head.Wanted, after.Head.Wanted))
	}
	if j := v.job(before, s.ID); err == nil && (j == nil || j.Session.Owner != c.ID) {
		v.found("S9", fmt.Sprintf("%s rejoins session %q, which is not live, or another's", c.Name, s.ID))
	}
}

// certified checks S11 for a certificate, and what that is for.
func (v *visits) certified(c caller.Caller, id string, got wire.SessionCertificate) {
	v.entered(c, id, "a certificate")
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.Certificate))
	if err != nil {
		v.t.Fatal(err)
	}
	if cert := key.(*ssh.Certificate); !slices.Equal(cert.ValidPrincipals, []string{"session:" + id}) || got.User != c.Name {
		v.found("S11", fmt.Sprintf("the certificate of %s for session %s is for %v as %s", c.Name, id, cert.ValidPrincipals, got.User))
	}
}

// entered checks S11: who gets in owns a session that runs on a node that is neither lost nor fenced.
func (v *visits) entered(c caller.Caller, id, with string) {
	part := v.rows()
	j := v.job(part, id)
	switch {
	case j == nil:
		v.found("S11", fmt.Sprintf("%s has got %s for session %s, which does not live", c.Name, with, id))
		return
	case j.Session.Owner != c.ID:
		v.found("S11", fmt.Sprintf("%s has got %s for session %s of %s", c.Name, with, id, j.Spec.User))
	case j.Session.ReadyAt.IsZero() || j.Cancel != "":
		v.found("S11", fmt.Sprintf("%s has got %s for session %s, which is %s, ready at %s, ends by %q", c.Name, with, id, j.State, j.Session.ReadyAt, j.Cancel))
	}
	i := slices.IndexFunc(part.Nodes, func(n *pool.Node) bool { return n.VMID == j.VMID })
	if i < 0 || v.app.Bus.Fenced(protocol.SessionID("lab", j.VMID)) ||
		slices.Contains([]pool.NodeState{pool.NodeLost, pool.NodeFailed, pool.NodeDeleting, pool.NodeGone}, part.Nodes[i].State) {
		v.found("S11", fmt.Sprintf("%s has got %s for session %s, whose node %q is lost or fenced", c.Name, with, id, j.VMID))
	}
}

// nodes lets the nodes of the pool live for a while.
func (v *visits) nodes() {
	report := func(vmid string, item protocol.ReportItem) {
		if err := v.app.Report(v.t.Context(), "lab", vmid, item); err != nil {
			v.t.Fatal(err)
		}
	}
	for _, n := range v.rows().Nodes {
		if n.State == pool.NodeGone || v.mute[n.VMID] {
			continue
		}
		if v.rng.IntN(40) == 0 {
			v.mute[n.VMID] = true
			continue
		}
		if n.Boot == "" {
			report(n.VMID, protocol.ReportItem{Ready: &protocol.Ready{Name: n.Name, Size: "Standard_D2s_v5", CPUs: 2, Boot: "1",
				HostKeys: []string{hostKey}, Features: protocol.SessionFeatures()}})
		}
		for _, item := range v.app.Bus.TakeWork(protocol.SessionID("lab", n.VMID)) {
			switch {
			case item.Assign != nil:
				v.given[n.VMID] = append(v.given[n.VMID], item.N)
			case item.Cancel != nil:
				if v.ended[n.VMID] == nil {
					v.ended[n.VMID] = map[int64]bool{}
				}
				v.ended[n.VMID][item.Cancel.Target] = true
			}
		}
		for _, number := range slices.Clone(v.given[n.VMID]) {
			switch {
			case v.ended[n.VMID][number] && v.rng.IntN(2) == 0:
				report(n.VMID, protocol.ReportItem{Finished: &protocol.Finished{N: number, State: "cancelled", EndedAt: v.app.Clock.Now()}})
				v.given[n.VMID] = slices.DeleteFunc(v.given[n.VMID], func(other int64) bool { return other == number })
			case v.rng.IntN(2) == 0:
				report(n.VMID, protocol.ReportItem{Started: &protocol.Started{N: number, At: v.app.Clock.Now()}})
			}
		}
		report(n.VMID, protocol.ReportItem{Holds: &protocol.Holds{N: v.given[n.VMID]}})
	}
}

// A simulation of people at the door of a pool: S9 and S11 hold whatever comes.
func TestSimulationOfVisits(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(6) {
		v := newVisits(t, seed)
		steps := 0
		v.found = func(name, problem string) { t.Fatalf("seed %d, after %d steps: %s: %s", seed, steps, name, problem) }
		for steps = range 150 {
			v.visit()
			if steps%2 == 0 {
				v.nodes()
			}
			if v.rng.IntN(6) == 0 { // Azure answers, or does not: a lost node is not gone at once
				v.app.Fleet.Fail(map[bool]error{true: errors.New("away")}[v.rng.IntN(2) == 0])
			}
			if v.rng.IntN(3) == 0 {
				v.app.Clock.Set(v.app.Clock.Now().Add(time.Duration(20+v.rng.IntN(100)) * time.Second))
				if err := v.app.Pools.Tick(t.Context(), "lab", v.app.Clock.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, n := range v.rows().Nodes {
			v.seen["node "+string(n.State)]++
		}
		for what, n := range v.seen {
			seen[what] += n
		}
	}
	text, err := json.Marshal(seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seen: %s", strings.Trim(string(text), "{}"))
	for _, what := range []string{"open", "rejoin", "rejoin refused", "certificate", "certificate refused", "ticket", "stop", "node lost"} {
		if seen[what] == 0 {
			t.Errorf("never seen: %s", what)
		}
	}
}
