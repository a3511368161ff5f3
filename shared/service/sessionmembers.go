package service

import (
	"context"
	"slices"
	"strings"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// isMember reports whether a pool lets somebody have sessions: all who may use the deployment,
// or those whom its document names. A login means the person who had it first, whatever the
// directory calls people later.
func (s *Sessions) isMember(ctx context.Context, c caller.Caller, members pool.Members) (bool, error) {
	if len(members.Groups)+len(members.Names) == 0 {
		return true, nil
	}
	same := func(of string) func(string) bool { return func(one string) bool { return strings.EqualFold(one, of) } }
	if slices.ContainsFunc(members.Groups, func(g string) bool { return slices.ContainsFunc(c.Groups, same(g)) }) ||
		slices.ContainsFunc(members.Names, same(c.ID)) {
		return true, nil
	}
	if !slices.ContainsFunc(members.Names, func(name string) bool { return strings.Contains(name, "@") }) {
		return false, nil // all of them are object ids
	}
	login, err := s.users.Owned(ctx, c.ID)
	return err == nil && login != "" && slices.ContainsFunc(members.Names, same(login)), err
}

// stayMember refuses a person who owns a session and is no member of its pool any more, and has
// the session end. A sign-in that does not tell the person's groups refuses, and ends nothing.
// What the directory says of a person comes with that person's own calls alone: the app has
// no right to read the directory, so that nobody looks in between.
func (s *Sessions) stayMember(ctx context.Context, j *pool.Job, members pool.Members) error {
	c, err := person(ctx)
	if err != nil {
		return err
	}
	isMember, err := s.isMember(ctx, c, members)
	if err != nil || isMember && (j.Spec.Team == "" || c.RoleIn(j.Spec.Team).Rank() >= caller.User.Rank()) {
		return err
	}
	if c.TooManyGroups {
		return errNoMember(j.Spec.Pool)
	}
	gone := pool.Cancel{Order: j.Order, Reason: "its owner is no member of the pool or of its team any more", By: pool.EndAdmin}
	if err := driveIfThere(ctx, s.driver, j.Spec.Pool, gone); err != nil {
		return err
	}
	return fault.New(fault.Forbidden, "pool", "you are no member of pool %q or of the session's team any more, so your session ends; "+
		"files on the share stay, and an operator can add you again", j.Spec.Pool)
}

func errNoMember(name string) error {
	return fault.New(fault.Forbidden, "pool", "pool %q is for its members, and you are none; "+
		"ask an operator to add you to `users` of the pool", name)
}
