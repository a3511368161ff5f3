package httpapi

import (
	"net/http"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// claimJob makes a job the caller's own: user and team are those of the person who calls.
// What the document says must be allowed to the person. A program says both itself.
func claimJob(c caller.Caller, spec *job.Spec) error {
	if !c.IsPerson() {
		return nil
	}
	team, err := c.ClaimTeam(spec.Team)
	if err != nil {
		return err
	}
	spec.Team = team
	switch {
	case spec.User == "":
		spec.User = c.Name
	case spec.User != c.Name && c.RoleIn(spec.Team).Rank() < caller.Operator.Rank():
		return fault.New(fault.Forbidden, "user", "the job is for user %q, and you are %q; only an operator submits for others",
			document.Clip(spec.User), c.Name)
	}
	return nil
}

// mayChangeJob returns nil if the caller may change a job: it is the person's own, or the
// caller is an operator of its team.
func (s *server) mayChangeJob(r *http.Request, id string) error {
	c := callerOf(r)
	if c.RoleIn(caller.AllTeams) == caller.Operator {
		return nil
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return err
	}
	return mayChange(c, j.Spec.User, j.Spec.Team)
}

// mayChange returns nil if the caller may change jobs of a user in a team; "" = any user.
func mayChange(c caller.Caller, user, team string) error {
	if c.RoleIn(caller.AllTeams) == caller.Operator || team != "" && c.RoleIn(team) == caller.Operator {
		return nil
	}
	isOwn := c.IsPerson() && c.Name != "" && user == c.Name
	if isOwn && (team == "" || c.RoleIn(team).Rank() >= caller.User.Rank()) {
		return nil
	}
	whose := "other people's jobs"
	if user != "" {
		whose = "the jobs of user " + document.Clip(user)
	}
	return fault.New(fault.Forbidden, "", "only an operator changes %s; you may change your own", whose)
}

// mayCancel returns nil if the caller may cancel all jobs that pass a filter.
func mayCancel(c caller.Caller, f wire.JobFilter) error { return mayChange(c, f.User, f.Team) }
