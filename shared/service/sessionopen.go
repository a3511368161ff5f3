package service

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// openTries is how often one call looks for a session and makes one. The second look finds what
// the first has made, unless it has ended since.
const openTries = 3

// Open returns the live session of the caller in a pool, and makes one where there is none;
// isNew says that this call has made it. Of several calls at once, by whatever handlers, one
// makes it: the pool makes no second session of one owner, and the others find it in the rows.
func (s *Sessions) Open(ctx context.Context, name, team string) (out wire.Session, isNew bool, err error) {
	c, err := person(ctx)
	if err != nil {
		return out, false, err
	}
	spec, err := s.spec(ctx, name)
	if err != nil {
		return out, false, err
	}
	if s.only != "" && c.ID != s.only {
		return out, false, fault.New(fault.Forbidden, "pool", "sessions are for the owner of this instance alone, since they run "+
			"as the account of `dsvm up`; run `dsvm up` as root, so that each person has an account")
	}
	isMember, err := s.isMember(ctx, c, spec.Users)
	if err != nil {
		return out, false, err
	}
	for range openTries {
		live, err := s.live(ctx, name, c)
		if err != nil {
			return out, false, err
		}
		if live != nil {
			if err := s.stayMember(ctx, live, spec.Users); err != nil {
				return out, false, err
			}
			out, err = s.show(ctx, live)
			return out, isNew, err
		}
		if !isMember {
			return out, false, errNoMember(name)
		}
		if team, err = c.ClaimTeam(team); err != nil {
			return out, false, err
		}
		if isNew, err = s.make(ctx, name, team, c); err != nil {
			return out, false, err
		}
	}
	return out, false, &fault.Error{Code: fault.Throttled, RetryAfter: time.Second,
		Message: fmt.Sprintf("your sessions in pool %q begin and end at once; try again", name)}
}

// make brings the pool a new session, and reports whether the pool has taken it.
func (s *Sessions) make(ctx context.Context, name, team string, c caller.Caller) (bool, error) {
	at := s.now()
	order := s.orders.run(at, 1)[0]
	id := strings.ToLower(order) // ids are compared without letter case, and their rows have none
	spec := job.Spec{ID: id, Pool: name, Team: team, User: c.Name, Priority: job.Normal}
	claim := rand.Text()
	row := store.ID{ID: id, Pool: name, Order: order, Hash: spec.Hash(), Via: store.ByHTTP, At: at}
	if _, _, err := s.store.RegisterAs(ctx, claim, []store.ID{row}); err != nil {
		return false, err
	}
	out, err := s.driver.Drive(ctx, name, pool.Open{Order: order, ID: id, Spec: spec, Session: pool.Session{Owner: c.ID, UID: c.UID}, At: at})
	if fault.CodeOf(err) == fault.NotFound {
		err = noPool(ctx, s.store, name)
	}
	if i := slices.IndexFunc(out.Refused, func(r pool.Refusal) bool { return r.Order == order }); err == nil && i >= 0 {
		err = out.Refused[i].Err
	}
	if err != nil {
		if fault.CodeOf(err) != fault.Internal { // otherwise nobody knows whether it was taken
			_ = s.store.Release(ctx, claim, id) // what is left is given up later, as any id without a job
		}
		return false, err
	}
	_, err = s.store.Job(ctx, name, order)
	if fault.CodeOf(err) == fault.NotFound { // somebody else was first
		return false, s.store.Release(ctx, claim, id)
	}
	return err == nil, err
}
