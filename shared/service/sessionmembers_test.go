package service_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// A login in `users.names` is the person's who had it first, whatever the directory calls people
// afterwards.
func TestMembersByLogin(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, apptest.WithDoors(t))
	if err := app.Apply(t.Context(), `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},`+
		`"users":{"names":["Ann@contoso.com","C-1","later@contoso.com"]}}`); err != nil {
		t.Fatal(err)
	}
	signIn := func(id, login string) caller.Caller {
		t.Helper()
		c, err := app.Users.Find(t.Context(), caller.Caller{ID: id, Login: login, Teams: map[string]caller.Role{"vision": caller.User}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	signIn("d-1", "dora@contoso.com")
	for _, who := range []struct {
		name, id, login string
		isMember        bool
	}{
		{"the person of that login", "a-1", "ann@contoso.com", true},
		{"the same person, who is called something else now", "a-1", "ann.b@contoso.com", true},
		{"another person, to whom the login was given later", "a-2", "ann@contoso.com", false},
		{"somebody with an account who takes a login that is listed", "d-1", "later@contoso.com", false},
		{"somebody who is listed by object id", "c-1", "carl@contoso.com", true},
		{"a stranger", "e-1", "eve@contoso.com", false},
		{"somebody without a login", "f-1", "", false},
	} {
		s, _, err := app.Sessions.Open(as(t, signIn(who.id, who.login)), "lab", "")
		if isMember := err == nil; isMember != who.isMember || err != nil && !strings.Contains(err.Error(), "is for its members") {
			t.Errorf("%s: got %+v, %v", who.name, s, err)
		}
	}
}

// Who is no member any more gets nothing, and the session ends with the first call that tells.
func TestMemberNoMore(t *testing.T) {
	t.Parallel()
	unknown := bob
	unknown.Groups, unknown.TooManyGroups = nil, true
	left := bob
	left.Groups = []string{"g2"}
	teamless := bob
	teamless.Teams = map[string]caller.Role{"video": caller.User}
	for name, call := range map[string]func(app *apptest.Instance, id string) (ends bool, err error){
		"certificate": func(app *apptest.Instance, id string) (bool, error) {
			_, err := app.Sessions.Certificate(as(t, left), id, annsKey)
			return true, err
		},
		"browser": func(app *apptest.Instance, id string) (bool, error) {
			_, err := app.Sessions.Lab(as(t, left), id)
			return true, err
		},
		"rejoin": func(app *apptest.Instance, _ string) (bool, error) {
			_, err := app.Sessions.Rejoin(as(t, left), "lab")
			return true, err
		},
		"open": func(app *apptest.Instance, _ string) (bool, error) {
			_, _, err := app.Sessions.Open(as(t, left), "lab", "audio")
			return true, err
		},
		"extend": func(app *apptest.Instance, id string) (bool, error) {
			_, err := app.Sessions.Extend(as(t, left), id, time.Hour)
			return true, err
		},
		"in the team no more": func(app *apptest.Instance, id string) (bool, error) {
			_, err := app.Sessions.Certificate(as(t, teamless), id, annsKey)
			return true, err
		},
		"groups are not told": func(app *apptest.Instance, id string) (bool, error) {
			_, err := app.Sessions.Certificate(as(t, unknown), id, annsKey)
			return false, err
		},
	} {
		app := newLab(t)
		s, _, err := app.Sessions.Open(as(t, bob), "lab", "audio")
		if err != nil {
			t.Fatal(err)
		}
		begin(t, app, "lab-0", boot(t, app, "lab-0"))
		if _, err := app.Sessions.Certificate(as(t, bob), s.ID, annsKey); err != nil {
			t.Errorf("%s: while bob is a member: %v", name, err)
		}
		ends, err := call(app, s.ID)
		if fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s: got %v", name, err)
		}
		after, err := app.Sessions.Session(t.Context(), s.ID)
		if want := map[bool]wire.SessionState{true: wire.SessionEnding, false: wire.SessionReady}[ends]; err != nil || after.State != want {
			t.Errorf("%s: the session is %s, want %s; %v", name, after.State, want, err)
		}
		if j, err := app.Store.Job(t.Context(), "lab", strings.ToUpper(s.ID)); ends && (err != nil || j.Session.EndsBy != pool.EndAdmin) {
			t.Errorf("%s: it ends by %+v, %v", name, j, err)
		}
	}
}

// A session counts for one team: who is in several says which.
func TestTeamOfASession(t *testing.T) {
	t.Parallel()
	both := bob
	both.Teams = map[string]caller.Role{"vision": caller.User, "audio": caller.Operator, "video": caller.Reader}
	app := newLab(t)
	if s, _, err := app.Sessions.Open(as(t, both), "lab", ""); fault.CodeOf(err) != fault.Invalid || !strings.HasSuffix(err.Error(), "audio, vision") {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, _, err := app.Sessions.Open(as(t, both), "lab", "video"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("as a reader: got %+v, %v", s, err)
	}
	first, isNew, err := app.Sessions.Open(as(t, both), "lab", "vision")
	if err != nil || !isNew || first.Team != "vision" {
		t.Fatalf("got %+v, %t, %v", first, isNew, err)
	}
	if again, isNew, err := app.Sessions.Open(as(t, both), "lab", ""); err != nil || isNew || again.ID != first.ID {
		t.Errorf("the session that is there: got %+v, %t, %v", again, isNew, err)
	}
}
