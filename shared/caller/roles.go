package caller

import (
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
)

// Person is somebody whose sign-in has been checked, as the directory describes the person.
type Person struct {
	ID     string   // object id, lower case, which never changes
	Login  string   // such as ann@contoso.com, for people; it may change
	Groups []string // ids of the groups that the person is in
	// Overage says that the directory has left the groups out, since they are too many for
	// a token.
	Overage bool
}

// Everybody is the subject of a rule for all who have signed in.
const Everybody = "*"

// Rule gives a role to a group or to a person.
type Rule struct {
	Subject string // object id of a group or of a person, lower case, or Everybody
	Role    Role
	Team    string // AllTeams = in every team
}

// Rules are who has which role.
type Rules []Rule

// maxRules and maxTeam bound what is read of a setting.
const (
	maxRules = 500
	maxTeam  = 200
)

// subjectForm is what the directory names groups and people by.
var subjectForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// IsSubject reports whether a text can be the object id of a group or of a person.
func IsSubject(id string) bool { return subjectForm.MatchString(id) }

// ParseRole reads the name of a role. Its error is Invalid and names the roles.
func ParseRole(text string) (Role, error) {
	if r := Role(text); r.Rank() > 0 {
		return r, nil
	}
	return "", fault.New(fault.Invalid, "", "%.50q is no role; the roles are reader, user and operator", text)
}

// ParseRules reads rules such as "GROUP=operator; GROUP=user:vision; *=reader": the object
// id of a group or of a person, or * for all who sign in, a role, and the team it is for;
// without a team it is for every team. Its error is Invalid and quotes the part that is
// wrong.
func ParseRules(text string) (Rules, error) {
	var rules Rules
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		rule, err := parseRule(part)
		if err != nil {
			return nil, err
		}
		if rules = append(rules, rule); len(rules) > maxRules {
			return nil, fault.New(fault.Invalid, "", "there are more than %d roles; give them to groups, and not to people", maxRules)
		}
	}
	return rules, nil
}

func parseRule(part string) (Rule, error) {
	refuse := func(why string) (Rule, error) {
		return Rule{}, fault.New(fault.Invalid, "", "the part %.100q %s; a part is ID=ROLE or ID=ROLE:TEAM", part, why)
	}
	subject, rest, ok := strings.Cut(part, "=")
	if subject = strings.TrimSpace(subject); !ok {
		return refuse("has no =")
	}
	if subject != Everybody && !IsSubject(subject) {
		return refuse("does not begin with the object id of a group or of a person, or *")
	}
	name, team, hasTeam := strings.Cut(rest, ":")
	role, err := ParseRole(strings.TrimSpace(name))
	if err != nil {
		return refuse("names no role; the roles are reader, user and operator")
	}
	switch team = strings.TrimSpace(team); {
	case !hasTeam:
		team = AllTeams
	case team == "" || team == AllTeams:
		return refuse("has no team behind the colon")
	case len(team) > maxTeam || strings.ContainsAny(team, "=:,"):
		return refuse("has a team that cannot be one")
	}
	return Rule{strings.ToLower(subject), role, team}, nil
}

// Of is what a person may do, by team.
func (rules Rules) Of(p Person) map[string]Role {
	teams := map[string]Role{}
	for _, rule := range rules {
		isFor := rule.Subject == Everybody || strings.EqualFold(rule.Subject, p.ID) ||
			slices.ContainsFunc(p.Groups, func(g string) bool { return strings.EqualFold(g, rule.Subject) })
		if isFor && rule.Role.Rank() > teams[rule.Team].Rank() {
			teams[rule.Team] = rule.Role
		}
	}
	return teams
}

// Caller is the person as a caller, without an account yet.
func (rules Rules) Caller(p Person) Caller {
	return Caller{ID: p.ID, Login: p.Login, Teams: rules.Of(p), Groups: p.Groups, TooManyGroups: p.Overage}
}
