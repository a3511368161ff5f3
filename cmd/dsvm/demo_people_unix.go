//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/collector"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// peoplePoolName is the pool of the demonstration with people.
const peoplePoolName = "lab"

// demoPeopleDocument is that pool: one node with room for two people, who are warned after
// seconds. The argument says whether they have JupyterLab.
const demoPeopleDocument = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":1},"idleTimeout":"1s",
	"sessions":{"resources":{"cpus":1},"jupyter":%q,"idleAfter":"3s","warning":"5s"}}`

// demoPeopleTimes make the days and minutes of sessions seconds. A count of the votes takes
// the keeper some milliseconds, which are of the session: more often it would keep itself.
var demoPeopleTimes = []string{"DSVM_SESSION_VOTES=1s", "DSVM_SESSION_GRACE=200ms", "DSVM_REPORT_EVERY=500ms"}

// peopleDemo is one run of the demonstration with people.
type peopleDemo struct {
	p      *cli.Program
	dir    string
	ways   demoWays
	guest  *visitor // who is refused where there is one account alone; nil = everybody has one
	in     *local.Instance
	client *client.Client
	people []*visitor
	begin  time.Time
	phases []phase

	mu    sync.Mutex
	asked time.Time // first request for capacity
	most  int       // highest capacity that was asked for since watchCapacity
}

// demoInteractive shows two people on a pool that wakes from zero, and checks that all of
// it happened.
func demoInteractive(p *cli.Program) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "interactive [--keep]",
		Short: "Show two people on a pool that wakes from zero, and goes back to zero",
		Long: `Run an instance of its own in a temporary folder, where two people sign in and get
places on a node that boots for them: each has an account of their own, and comes
in by SSH, and by JupyterLab where it is installed. Both leave their windows open
and are warned; one types and stays, the other one's session ends; and the pool
goes back to zero nodes, which an open window does not change. The exit code is 0
only if all of it happened.

That needs Linux, root, and OpenSSH's server and client, which need not run. Accounts
are made for these sessions alone: nothing of it is left on the machine. Without root
there is one account: one person has a place, and a second one is refused in words.
What is left out, and what to install for it, is said at the begin.`,
		Example: "  dsvm demo interactive\n  dsvm demo interactive --keep",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ways, err := findDemoWays(cmd.Context())
			if err != nil {
				return err
			}
			dir, forget, err := makeDemoFolder()
			if err != nil {
				return err
			}
			if keep {
				data := filepath.Join(dir, cli.InstanceFolder)
				defer fmt.Fprintf(p.Err, "dsvm: everything is kept in %s; `dsvm up --data %s` goes on with it\n", dir, data)
			} else {
				defer forget()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
			defer cancel()
			d := &peopleDemo{p: p, dir: dir, ways: ways, begin: time.Now()}
			return d.run(ctx)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the instance's folder, with all logs")
	return cmd
}

func (d *peopleDemo) say(format string, args ...any) { d.p.Say(format, args...) }

func (d *peopleDemo) phase(what string, since time.Time) {
	d.phases = append(d.phases, phase{what, time.Since(since)})
}

func (d *peopleDemo) run(ctx context.Context) (err error) {
	for _, left := range d.ways.left {
		d.say("left out: %s", left)
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.in.Close()) }()
	// The first one types when the warning comes. Of two, that one also keeps the session, and
	// the other one's ends; of one, it ends when nobody does anything again.
	first, last := d.people[0], d.people[len(d.people)-1]
	for _, do := range []func() error{
		func() error { return d.wake(ctx) },
		func() error { return d.look(ctx) },
		func() error { return d.awaitWarnings(ctx) },
		func() error { return d.veto(ctx, first) },
		func() error { return d.keep(ctx, first, last) },
		func() error { return d.awaitIdleEnd(ctx, last) },
		func() error { return d.stop(ctx, first, last) },
		func() error { return d.awaitZero(ctx) },
		func() error { return d.rejoin(ctx, last) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	d.phase("all of it", d.begin)
	return d.tell(ctx)
}

// start starts the instance, makes the pool, and has the people sign in.
func (d *peopleDemo) start(ctx context.Context) error {
	collector.Tune(os.Getenv, local.MemoryGoal)
	self, err := program()
	if err != nil {
		return err
	}
	d.say("starting an instance in %s", d.dir)
	ann, bob := newVisitor(d, "ann"), newVisitor(d, "bob")
	signIn := []*visitor{ann, bob}
	d.people = signIn
	env := append(slices.Clone(demoPeopleTimes), "DSVM_JUPYTER="+cmp.Or(d.ways.jupyter, "none"))
	if d.ways.account != "" {
		d.guest = bob
		if d.ways.account == bob.name {
			d.guest = ann
		}
		d.people, signIn = []*visitor{newOwner(d, d.ways.account)}, []*visitor{d.guest}
		// Nothing of the real home is touched.
		home := filepath.Join(d.dir, "home")
		if err := os.Mkdir(home, 0o700); err != nil {
			return err
		}
		env = append(env, "HOME="+home)
	}
	users := filepath.Join(d.dir, "users")
	var lines strings.Builder
	for _, v := range signIn {
		hash, err := bcrypt.GenerateFromPassword([]byte(v.secret), bcrypt.MinCost)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s:%s:vision\n", v.login, hash)
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		return err
	}
	d.in, err = local.Start(ctx, local.Config{
		Dir:        filepath.Join(d.dir, cli.InstanceFolder),
		Program:    self,
		Settings:   map[string]string{"RECONCILE_SCHEDULE": "* * * * * *", "DSVM_FLEET_POLL": "100ms"},
		AgentEnv:   env,
		Users:      users,
		Log:        slog.LevelInfo,
		OnCapacity: d.noteCapacity,
	})
	if err != nil {
		return err
	}
	if d.client, err = client.New(d.in.URL, d.in.Key); err != nil {
		return err
	}
	if err := d.setUp(ctx, signIn); err != nil {
		return errors.Join(err, d.in.Close())
	}
	d.phase("instance started, "+names(signIn)+" signed in", d.begin)
	return nil
}

// names are those of people, for a sentence.
func names(of []*visitor) string {
	var all []string
	for _, v := range of {
		all = append(all, v.name)
	}
	return strings.Join(all, " and ")
}

func (d *peopleDemo) setUp(ctx context.Context, signIn []*visitor) error {
	jupyter := "off"
	if d.ways.jupyter != "" {
		jupyter = "lab"
	}
	if _, err := d.client.Apply(ctx, fmt.Appendf(nil, demoPeopleDocument, jupyter)); err != nil {
		return err
	}
	if err := each(signIn, func(v *visitor) error { return v.signIn(ctx) }); err != nil {
		return err
	}
	for _, v := range d.people {
		if !d.ways.ssh {
			break
		}
		if out, err := v.dsvm(ctx, "ssh", "config"); err != nil {
			return fmt.Errorf("%s has no settings for ssh: %w\n%s", v.name, err, out)
		}
	}
	p, err := d.client.Pool(ctx, peoplePoolName)
	if err != nil {
		return err
	}
	if p.Nodes.Total != 0 {
		return fmt.Errorf("pool %q has %d nodes before anybody has asked for a place", p.Name, p.Nodes.Total)
	}
	d.say("%s signed in; pool lab has 0 nodes", names(signIn))
	return nil
}

func (d *peopleDemo) noteCapacity(_ string, n int, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked.IsZero() && n > 0 {
		d.asked = at
	}
	d.most = max(d.most, n)
}

// each has people do something at once.
func each(people []*visitor, do func(*visitor) error) error {
	errs := make([]error, len(people))
	var all sync.WaitGroup
	for i, v := range people {
		all.Go(func() { errs[i] = do(v) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// wake has everybody ask for a place at once, which makes the pool buy a node.
func (d *peopleDemo) wake(ctx context.Context) error {
	began := time.Now()
	if d.guest != nil {
		if err := d.refuse(ctx, d.guest); err != nil {
			return err
		}
		began = time.Now()
	}
	if err := each(d.people, func(v *visitor) error { return v.connect(ctx) }); err != nil {
		return err
	}
	d.mu.Lock()
	asked := d.asked
	d.mu.Unlock()
	d.phases = append(
		d.phases,
		phase{names(d.people) + " asked for a place to node requested", asked.Sub(began)},
		phase{"node requested to all sessions ready", time.Since(asked)},
	)
	node := d.people[0].session.Node
	for _, v := range d.people {
		if v.session.Node == "" || v.session.Node != node {
			return fmt.Errorf("%s is on node %q, and the pool has one node, %q", v.name, v.session.Node, node)
		}
	}
	d.say("%s on node %s", names(d.people), node)
	return nil
}

// refuse has somebody ask for a place who cannot have one, and shows the answer.
func (d *peopleDemo) refuse(ctx context.Context, v *visitor) error {
	said, err := v.dsvm(ctx, "connect", peoplePoolName)
	if err == nil || !strings.Contains(said, "for the owner of this instance alone") {
		return errors.Join(err, fmt.Errorf("%s is not refused a place as expected: %s", v.name, said))
	}
	d.say("%s asks for a place: %s", v.name, strings.TrimSpace(strings.TrimPrefix(said, "dsvm: ")))
	return nil
}

// look has everybody look around on the node.
func (d *peopleDemo) look(ctx context.Context) error {
	if d.ways.ssh {
		began := time.Now()
		for i, v := range d.people {
			if err := v.lookAround(ctx); err != nil {
				return err
			}
			if len(d.people) > 1 {
				if err := v.pry(ctx, d.people[1-i].name); err != nil {
					return err
				}
			}
		}
		d.phase("commands by SSH of "+names(d.people), began)
	}
	if d.ways.jupyter == "" {
		return nil
	}
	began := time.Now()
	if err := d.people[0].openLab(ctx); err != nil {
		return err
	}
	d.phase(d.people[0].name+" has opened JupyterLab", began)
	return nil
}

// awaitWarnings has everybody leave a window open, until all are warned.
func (d *peopleDemo) awaitWarnings(ctx context.Context) error {
	began := time.Now()
	for _, v := range d.people {
		if !d.ways.ssh {
			break
		}
		if err := v.openWindow(ctx); err != nil {
			return err
		}
	}
	d.say("now nobody does anything; an open window alone keeps nothing")
	for _, v := range d.people {
		if err := d.await(ctx, "the warning of "+v.name, func() (bool, error) { return v.isWarned(ctx) }); err != nil {
			return err
		}
	}
	d.phase("nobody does anything to all warned", began)
	return nil
}

// veto has somebody type, which takes the warning back.
func (d *peopleDemo) veto(ctx context.Context, v *visitor) error {
	began := time.Now()
	err := d.await(ctx, "that the warning of "+v.name+" is taken back", func() (bool, error) {
		if err := v.doSomething(ctx); err != nil {
			return false, err
		}
		now, err := d.client.Session(ctx, v.session.ID)
		return err == nil && now.EndsAt == nil && (v.window == nil || v.window.has("goes on")), err
	})
	if err != nil {
		return err
	}
	d.phase(v.name+" did something to the warning taken back", began)
	d.say("%s has done something, which takes the warning back", v.name)
	return nil
}

// keep has the first of two keep the session for an hour, used or not.
func (d *peopleDemo) keep(ctx context.Context, first, last *visitor) error {
	if first == last {
		return nil
	}
	out, err := first.dsvm(ctx, "session", "extend", peoplePoolName, "1h")
	if err != nil {
		return fmt.Errorf("%s cannot keep the session: %w\n%s", first.name, err, out)
	}
	d.say("%s keeps the session until %s", first.name, out)
	return nil
}

// awaitIdleEnd waits until a session ends that nobody uses.
func (d *peopleDemo) awaitIdleEnd(ctx context.Context, v *visitor) error {
	began := time.Now()
	err := d.await(ctx, "the end of the session of "+v.name, func() (bool, error) {
		now, err := d.client.Session(ctx, v.session.ID)
		if err != nil || now.State != wire.SessionEnded {
			return false, err
		}
		v.session = now
		return true, nil
	})
	if err != nil {
		return err
	}
	if v.session.End.By != pool.EndIdle {
		return fmt.Errorf("the session of %s ended by %q, and not because nobody used it: %s", v.name, v.session.End.By, v.session.End.Detail)
	}
	if err := v.window.awaitEnd(ctx); err != nil {
		return err
	}
	d.phase("and to the end of the session of "+v.name, began)
	d.say("the session of %s has ended: %s", v.name, v.session.End.Detail)
	first := d.people[0]
	if first == v {
		return nil
	}
	if now, err := d.client.Session(ctx, first.session.ID); err != nil || now.State != wire.SessionReady {
		return errors.Join(err, fmt.Errorf("the session of %s is %s, and it was kept", first.name, now.State))
	}
	return nil
}

// stop has the first of two end the own session.
func (d *peopleDemo) stop(ctx context.Context, v, last *visitor) error {
	if v == last {
		return nil
	}
	if out, err := v.dsvm(ctx, "session", "stop", peoplePoolName); err != nil {
		return fmt.Errorf("%s cannot end the session: %w\n%s", v.name, err, out)
	}
	if err := v.window.awaitEnd(ctx); err != nil {
		return err
	}
	d.say("%s has ended this session: `dsvm session stop`", v.name)
	return nil
}

// awaitZero waits until nothing is there that would cost money in Azure.
func (d *peopleDemo) awaitZero(ctx context.Context) error {
	began := time.Now()
	d.say("nobody is there any more; the idle node leaves after 1s")
	err := d.await(ctx, "a pool without nodes", func() (bool, error) {
		p, err := d.client.Pool(ctx, peoplePoolName)
		return err == nil && p.Nodes.Total == 0 && p.Wanted == 0 && len(d.in.Compute.Instances()) == 0 && d.listeners() == 0, err
	})
	if err != nil {
		return err
	}
	d.phase("last session ended to no node and no listener", began)
	return nil
}

// listeners counts who listens at the relay for the pool's one node.
func (d *peopleDemo) listeners() int {
	n := 0
	for _, entity := range []string{"lab-1", "lab-1-web"} {
		n += max(d.in.Relay.Listeners(entity), 0)
	}
	return n
}

// rejoin has somebody's ssh come back, as an editor does by itself: it starts nothing.
func (d *peopleDemo) rejoin(ctx context.Context, v *visitor) error {
	if !d.ways.ssh {
		return nil
	}
	d.mu.Lock()
	d.most = 0
	d.mu.Unlock()
	// The first one may still have the files of the session that has ended.
	for range 2 {
		if out, err := v.ssh(ctx, "true"); err == nil {
			return fmt.Errorf("ssh of %s came in, though the session has ended\n%s", v.name, out)
		}
	}
	p, err := d.client.Pool(ctx, peoplePoolName)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.most > 0 || p.Nodes.Total > 0 || p.Wanted > 0 || p.Queued > 0 {
		return fmt.Errorf("an ssh that comes back has woken the pool: %d nodes were asked for", max(d.most, p.Wanted))
	}
	d.say("the ssh of %s came back by itself, as editors do, and has woken nothing", v.name)
	return nil
}

// await looks again and again until something has happened.
func (d *peopleDemo) await(ctx context.Context, what string, has func() (bool, error)) error {
	for {
		done, err := has()
		if err != nil || done {
			return err
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return fmt.Errorf("%s did not happen in time, or the demonstration was stopped; run it with --keep and look at the logs", what)
		}
	}
}
