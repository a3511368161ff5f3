package service

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// Sessions opens, finds, shows, extends and stops the sessions of people, and lets their
// owners in. A session is a job of its pool; the pool decides where it is and when it ends.
type Sessions struct {
	store  *store.Store
	driver *drive.Driver
	ids    *registry
	orders orders
	users  *Users
	doors  *Doors // nil = the deployment lets nobody in
	only   string // object id of the one person who may open sessions; "" = everybody who has the right
	now    func() time.Time
}

// liveStates are those of a session that has not ended.
var liveStates = []job.State{job.Held, job.Queued, job.Assigned, job.Running}

// endedStates are those of a session that has ended.
var endedStates = []job.State{job.Succeeded, job.Failed, job.Cancelled, job.TimedOut}

const (
	// maxSessions bounds the live sessions of one pool that a list has.
	maxSessions = 1000
	// leastExtension and mostExtension bound what one call may keep a session for. The pool's
	// maxAge bounds all of them together.
	leastExtension, mostExtension = time.Minute, 30 * 24 * time.Hour
	// cutFrom is how much earlier than asked for a session is to end, to be said: rows keep
	// times a little coarser.
	cutFrom = time.Second
	// recentEnds is how many of the last sessions of a person are looked at for how the last
	// one ended.
	recentEnds = 1
)

// person returns who calls, if it is a person with an account.
func person(ctx context.Context) (caller.Caller, error) {
	c, ok := caller.Of(ctx)
	if !ok || !c.IsPerson() {
		return c, fault.New(fault.Forbidden, "", "a session belongs to a person; sign in with `dsvm login`")
	}
	if c.Name == "" {
		return c, fault.New(fault.Forbidden, "", "you have no account on the nodes yet; sign in again with `dsvm login`")
	}
	return c, nil
}

// spec returns the document of an interactive pool.
func (s *Sessions) spec(ctx context.Context, name string) (pool.Spec, error) {
	if name == "" {
		return pool.Spec{}, fault.New(fault.Invalid, "pool", "`pool` is missing; name the pool in which the session is to be")
	}
	if err := checkPoolName(ctx, s.store, name); err != nil {
		return pool.Spec{}, err
	}
	spec, err := s.driver.Spec(ctx, name)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return spec, noPool(ctx, s.store, name)
	case err == nil && !spec.IsInteractive():
		err = fault.New(fault.Invalid, "pool", "pool %q runs jobs and has no sessions; `dsvm pool list` shows which pools are interactive", name)
	}
	return spec, err
}

// Rejoin returns the live session of the caller in a pool, and never makes one.
// fault.SessionEnded: there is none; the sentence says how the last one ended.
func (s *Sessions) Rejoin(ctx context.Context, name string) (wire.Session, error) {
	c, err := person(ctx)
	if err != nil {
		return wire.Session{}, err
	}
	spec, err := s.spec(ctx, name)
	if err != nil {
		return wire.Session{}, err
	}
	live, err := s.live(ctx, name, c)
	if err != nil {
		return wire.Session{}, err
	}
	if live != nil {
		if err := s.stayMember(ctx, live, spec.Users); err != nil {
			return wire.Session{}, err
		}
		return s.show(ctx, live)
	}
	last, _, err := s.store.Jobs(ctx, name, store.JobFilter{User: c.Name, States: endedStates}, recentEnds, "")
	if err != nil {
		return wire.Session{}, err
	}
	if len(last) == 0 {
		return wire.Session{}, fault.New(fault.SessionEnded, "", "you have no session in pool %q; start one with `dsvm connect %s`", name, name)
	}
	return wire.Session{}, fault.New(fault.SessionEnded, "", "your session in pool %q ended at %s: %s; start another with `dsvm connect %s`",
		name, last[0].EndedAt.UTC().Format(time.RFC3339), cmp.Or(last[0].Reason, "no reason was recorded"), name)
}

// live finds the live session of a person in a pool; nil = there is none.
func (s *Sessions) live(ctx context.Context, name string, c caller.Caller) (*pool.Job, error) {
	jobs, _, err := s.store.Jobs(ctx, name, store.JobFilter{User: c.Name, States: liveStates}, maxSessions, "")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(jobs, func(j *pool.Job) bool { return j.Session != nil && j.Session.Owner == c.ID })
	if i < 0 {
		return nil, nil
	}
	return jobs[i], nil
}

// Session returns a session in any state.
func (s *Sessions) Session(ctx context.Context, id string) (wire.Session, error) {
	j, err := s.find(ctx, id)
	if err != nil {
		return wire.Session{}, err
	}
	return s.show(ctx, j)
}

// find finds the job of a session.
func (s *Sessions) find(ctx context.Context, id string) (*pool.Job, error) {
	if job.CheckID(id) == nil {
		j, err := s.ids.find(ctx, id)
		if err == nil && j.Session != nil {
			return j, nil
		}
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return nil, err
		}
	}
	return nil, fault.New(fault.NotFound, "id", "there is no session %.100q; `dsvm session list` shows the sessions", id)
}

// owned finds the job of a session that is the caller's.
func (s *Sessions) owned(ctx context.Context, id string) (*pool.Job, error) {
	c, err := person(ctx)
	if err != nil {
		return nil, err
	}
	j, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if j.Session.Owner != c.ID {
		return nil, fault.New(fault.Forbidden, "id", "session %q is of %s, and nobody else may use it", j.ID, j.Spec.User)
	}
	return j, nil
}

// show is a session with what its pool knows of it.
func (s *Sessions) show(ctx context.Context, j *pool.Job) (wire.Session, error) {
	if j.State.Final() {
		out := wire.NewSession(j, nil, s.now())
		var err error
		out.Cost, err = costs{s.store, s.driver}.endedCost(ctx, j)
		return out, err
	}
	head, nodes, _, err := s.driver.Nodes(ctx, j.Spec.Pool)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return wire.Session{}, err
	}
	out := s.shape(j, &head, nodes)
	if out.State != wire.SessionWaiting {
		open, err := costs{s.store, s.driver}.openCosts(ctx, j.Spec.Pool, s.now())
		out.Cost = open[j.Order]
		return out, err
	}
	out.UsualWait = int64(pool.UsualBoot(head.Sets) / time.Second)
	e, isLive, err := s.driver.Explain(ctx, j.Spec.Pool, j.Order)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return wire.Session{}, err
	}
	if isLive {
		out.Reason = cmp.Or(e.Reason, out.Reason)
		if e.Waiting > 0 {
			out.Position = e.Ahead + 1
		}
	}
	return out, nil
}

// shape is the shape of a session that lives, with what it lacks by its node and by its pool's document.
func (s *Sessions) shape(j *pool.Job, head *pool.Head, nodes []*pool.Node) wire.Session {
	out := wire.NewSession(j, nodeOf(j, nodes), s.now())
	if why := head.Spec.WithoutLab(); why != "" {
		all := map[string]string{}
		maps.Copy(all, out.Missing) // that one is the node's
		all[protocol.MissingJupyter], out.Missing = why, all
	}
	return out
}

// nodeOf is the node of a session; nil = it has none.
func nodeOf(j *pool.Job, nodes []*pool.Node) *pool.Node {
	i := slices.IndexFunc(nodes, func(n *pool.Node) bool { return j.VMID != "" && n.VMID == j.VMID })
	if i < 0 {
		return nil
	}
	return nodes[i]
}

// List returns the live sessions of a pool, or of all interactive pools for "", by pool
// and account; of one account, unless user is "".
func (s *Sessions) List(ctx context.Context, name, user string) ([]wire.Session, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = s.store.PoolNames(ctx); err != nil {
			return nil, err
		}
	}
	var all []wire.Session
	for _, of := range names {
		some, err := s.listPool(ctx, of, user)
		if name == "" && (fault.CodeOf(err) == fault.Invalid || fault.CodeOf(err) == fault.NotFound) {
			continue // it has no sessions, or has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b wire.Session) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.User, b.User), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

func (s *Sessions) listPool(ctx context.Context, name, user string) ([]wire.Session, error) {
	if _, err := s.spec(ctx, name); err != nil {
		return nil, err
	}
	jobs, _, err := s.store.Jobs(ctx, name, store.JobFilter{User: user, States: liveStates}, maxSessions, "")
	if err != nil {
		return nil, err
	}
	head, nodes, _, err := s.driver.Nodes(ctx, name)
	if err != nil {
		return nil, err
	}
	open, err := costs{s.store, s.driver}.openCosts(ctx, name, s.now())
	if err != nil {
		return nil, err
	}
	var out []wire.Session
	for _, j := range jobs {
		if j.Session != nil {
			one := s.shape(j, &head, nodes)
			one.Cost = open[j.Order]
			out = append(out, one)
		}
	}
	return out, nil
}

// Explain says why a session is where it is.
func (s *Sessions) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	j, err := s.find(ctx, id)
	if err != nil {
		return wire.Explanation{}, err
	}
	e := scheduler.Explanation{Reason: j.Reason}
	if !j.State.Final() {
		now, isLive, err := s.driver.Explain(ctx, j.Spec.Pool, j.Order)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return wire.Explanation{}, err
		}
		if isLive {
			e = now
		}
	}
	out := wire.NewExplanation(j.ID, j.Spec.Pool, e)
	out.State = job.State(wire.NewSession(j, nil, s.now()).State)
	out.Reason = cmp.Or(out.Reason, "no reason was recorded")
	return out, nil
}

// Stop asks for a session to end: its owner may, and an operator of its team.
func (s *Sessions) Stop(ctx context.Context, id string) (wire.Session, error) {
	c, _ := caller.Of(ctx)
	j, err := s.find(ctx, id)
	if err != nil {
		return wire.Session{}, err
	}
	by, why := pool.EndUser, "stopped by its owner"
	if !c.IsPerson() || j.Session.Owner != c.ID {
		by, why = pool.EndAdmin, "stopped by an operator"
		team := cmp.Or(j.Spec.Team, caller.AllTeams) // one of no team is for no operator of a team
		if err := c.Need(caller.Operator, team); err != nil {
			return wire.Session{}, err
		}
	}
	return s.notify(ctx, j, pool.Cancel{Order: j.Order, Reason: why, By: by})
}

// Extend has a session kept for a time from now, which counts from this call. The answer's
// KeepUntil says until when it is kept; null = it is being ended, and cannot be kept.
func (s *Sessions) Extend(ctx context.Context, id string, by time.Duration) (wire.Session, error) {
	if by < leastExtension || by > mostExtension {
		return wire.Session{}, fault.New(fault.Invalid, "for", "`for` is %s; write a time from %s to %s, such as 8h",
			job.Duration(by), job.Duration(leastExtension), job.Duration(mostExtension))
	}
	j, err := s.owned(ctx, id)
	if err != nil {
		return wire.Session{}, err
	}
	if !j.State.Final() {
		spec, err := s.spec(ctx, j.Spec.Pool)
		if err == nil {
			err = s.stayMember(ctx, j, spec.Users)
		}
		if err != nil {
			return wire.Session{}, err
		}
	}
	until := s.now().Add(by)
	out, err := s.notify(ctx, j, pool.Extend{Order: j.Order, Until: until})
	out.KeepCut = out.KeepUntil != nil && until.Sub(*out.KeepUntil) > cutFrom
	return out, err
}

// notify brings the pool of a session an event about it, and returns the session as it is
// then.
func (s *Sessions) notify(ctx context.Context, j *pool.Job, event pool.Event) (wire.Session, error) {
	if !j.State.Final() {
		if err := driveIfThere(ctx, s.driver, j.Spec.Pool, event); err != nil {
			return wire.Session{}, err
		}
	}
	return s.Session(ctx, j.ID)
}
