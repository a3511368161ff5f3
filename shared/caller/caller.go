// Package caller holds who calls the HTTP API, as the API has found out: a person who has
// signed in, or a program that has the function key. Use cases ask it for rights and for
// names; it knows neither requests nor tokens.
package caller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// Role is what somebody may do; each may do what the ones before may.
type Role string

// Roles, from the least to the most.
const (
	Reader   Role = "reader"   // see everything of the deployment
	User     Role = "user"     // submit jobs and open sessions, and change what is their own
	Operator Role = "operator" // change pools, nodes, and what is of others
)

// Rank orders the roles: 0 is none.
func (r Role) Rank() int {
	switch r {
	case Reader:
		return 1
	case User:
		return 2
	case Operator:
		return 3
	}
	return 0
}

// AllTeams is the name under which Caller.Teams has a role in every team.
const AllTeams = "*"

// Caller is somebody whose rights have been checked.
type Caller struct {
	// ID is the object id of a person in the directory, which never changes; "" = a program
	// that has the function key, and is no person.
	ID     string
	Name   string          // of the account on nodes and in rows, from table users; "" = a program, or a person without an account yet
	UID    int             // of the account, 200000 or more; 0 = a program, or a person without an account yet
	Login  string          // what the directory calls the person, such as ann@contoso.com, for people
	Teams  map[string]Role // by team; AllTeams = every team
	Groups []string        // object ids of the groups of a person, as far as the directory tells them
	From   string          // the address that the request came from, for the audit trail; "" = not known
	// TooManyGroups says that the directory did not tell the groups of the person, so that
	// roles may be missing.
	TooManyGroups bool
}

// IsPerson reports whether the caller is a person who has signed in.
func (c Caller) IsPerson() bool { return c.ID != "" }

// RoleIn is the role in a team; "" = none. For the team "", it is the highest role in any
// team.
func (c Caller) RoleIn(team string) Role {
	best := c.Teams[AllTeams]
	for name, role := range c.Teams {
		if (team == "" || name == team) && role.Rank() > best.Rank() {
			best = role
		}
	}
	return best
}

// Need returns nil if the caller has at least a role in a team, as RoleIn finds it. The
// error is a *fault.Error with code Forbidden and says what is missing.
func (c Caller) Need(role Role, team string) error {
	if role.Rank() > 0 && c.RoleIn(team).Rank() >= role.Rank() {
		return nil
	}
	where := ""
	switch team {
	case "":
	case AllTeams:
		where = " in every team"
	default:
		where = fmt.Sprintf(" in team %q", document.Clip(team))
	}
	if c.TooManyGroups {
		return fault.New(fault.Forbidden, "", "this needs the role %s%s, and your sign-in does not tell your groups since they are too many; "+
			"ask an operator to have the directory tell only the groups of this application (docs/identity.md)", role, where)
	}
	return fault.New(fault.Forbidden, "", "this needs the role %s%s; ask an operator of the deployment for it (docs/identity.md)", role, where)
}

// ClaimTeam is the team for something of the caller's own: the one that is named, which has to
// be allowed; otherwise the only one in which the caller may have something. "" = the role is
// for every team, and none has a name. The error is a *fault.Error: Forbidden, or Invalid with
// the field "team" where there are several.
func (c Caller) ClaimTeam(named string) (string, error) {
	if named != "" {
		return named, c.Need(User, named)
	}
	switch teams := c.TeamsAs(User); len(teams) {
	case 0:
		return "", c.Need(User, "")
	case 1:
		return teams[0], nil
	default:
		return "", fault.New(fault.Invalid, "team", "you are in several teams; say in `team` for which this is: %s", strings.Join(teams, ", "))
	}
}

// TeamsAs lists by name the teams in which the caller has at least a role; AllTeams is none
// of them.
func (c Caller) TeamsAs(role Role) []string {
	var teams []string
	for team := range c.Teams {
		if team != AllTeams && c.RoleIn(team).Rank() >= role.Rank() {
			teams = append(teams, team)
		}
	}
	slices.Sort(teams)
	return teams
}

// Refused is the error for a sign-in that is not taken.
type Refused struct {
	Reason string // a sentence for the caller, without any part of a token
}

func (r *Refused) Error() string { return r.Reason }

type key struct{}

// With returns a context that knows the caller.
func With(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// Of returns the caller of a request; false: nobody is known, since no request brought it.
func Of(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(key{}).(Caller)
	return c, ok
}
