package caller_test

import (
	"maps"
	"strings"
	"testing"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
)

const (
	ops    = "11111111-aaaa-4000-8000-000000000001"
	vision = "11111111-aaaa-4000-8000-000000000002"
	ann    = "22222222-aaaa-4000-8000-000000000001"
)

func TestRolesOfAPerson(t *testing.T) {
	t.Parallel()
	rules, err := caller.ParseRules(" " + strings.ToUpper(ops) + " = operator ; " + vision + "=user:vision; *=reader;" + ann + "=user:speech;" + vision + "=reader:vision;")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		of   caller.Person
		want map[string]caller.Role
	}{
		{"nobody", caller.Person{ID: "33333333"}, map[string]caller.Role{"*": caller.Reader}},
		{"an operator", caller.Person{ID: "x", Groups: []string{"other", ops}}, map[string]caller.Role{"*": caller.Operator}},
		{"a user of a team", caller.Person{ID: "x", Groups: []string{strings.ToUpper(vision)}}, map[string]caller.Role{"*": caller.Reader, "vision": caller.User}},
		{"by name and by group", caller.Person{ID: ann, Groups: []string{vision}},
			map[string]caller.Role{"*": caller.Reader, "vision": caller.User, "speech": caller.User}},
		{"a group called *", caller.Person{ID: "x", Groups: []string{"*"}}, map[string]caller.Role{"*": caller.Reader}},
	} {
		if got := rules.Of(c.of); !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestParseRulesRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, part string }{
		{"no role", ops, ops},
		{"no such role", ops + "=admin", "admin"},
		{"a role in another case", ops + "=Operator", "Operator"},
		{"no subject", "=operator", "=operator"},
		{"a name", "ann@contoso.com=operator", "ann@contoso.com"},
		{"no team", ops + "=user:", "user:"},
		{"a team of all", ops + "=user:*", "user:*"},
		{"two teams", ops + "=user:a:b", "user:a:b"},
		{"commas between parts", ops + "=user:a," + vision + "=operator", "user:a,"},
		{"the second part", "*=reader; " + ops + "=root", ops + "=root"},
		{"too many", strings.Repeat("*=reader;", 501), "500"},
	} {
		_, err := caller.ParseRules(c.text)
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: got %v, want an error that quotes %q", c.name, err, c.part)
		}
	}
}

func TestNeed(t *testing.T) {
	t.Parallel()
	c := caller.Caller{ID: ann, Teams: map[string]caller.Role{"vision": caller.Operator, "speech": caller.Reader}}
	for _, tt := range []struct {
		role caller.Role
		team string
		ok   bool
	}{
		{caller.Operator, "", true}, {caller.Operator, "vision", true}, {caller.Operator, caller.AllTeams, false},
		{caller.User, "speech", false}, {caller.Reader, "speech", true}, {caller.Reader, "other", false},
		{"", "", false}, {"root", "vision", false}, // no role at all is never enough
	} {
		if err := c.Need(tt.role, tt.team); (err == nil) != tt.ok || err != nil && fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s in %q: got %v, want ok: %v", tt.role, tt.team, err, tt.ok)
		}
	}
	if err := (caller.Caller{TooManyGroups: true}).Need(caller.User, "vision"); !strings.Contains(err.Error(), "too many") {
		t.Errorf("the groups that are too many are not told: %v", err)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("a=user:vision; *=reader")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := caller.ParseRules(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			if r.Role.Rank() == 0 || r.Team == "" || r.Subject != caller.Everybody && !caller.IsSubject(r.Subject) {
				t.Errorf("%q gives %v", text, r)
			}
		}
	})
}
