package service_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/service"
)

func person(id, login string) caller.Caller { return caller.Caller{ID: id, Login: login} }

// Two of one name get names of their own, and each keeps what it has got.
func TestAccounts(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	for _, c := range []struct {
		id, login, name string
		uid             int
	}{
		{"a-1", "ann@contoso.com", "ann", 200000}, {"a-2", "Ann@fabrikam.com", "ann2", 200001}, {"a-1", "anna@contoso.com", "ann", 200000},
		{"r-1", "root@contoso.com", "root2", 200002}, {"e-1", "", "u2", 200003}, {"a-3", "ann2@contoso.com", "ann22", 200004},
	} {
		got, err := app.Users.Find(t.Context(), person(c.id, c.login))
		if err != nil || got.Name != c.name || got.UID != c.uid {
			t.Errorf("%s %s: got %s %d, %v; want %s %d", c.id, c.login, got.Name, got.UID, err, c.name, c.uid)
		}
	}
	if got, err := app.Users.Find(t.Context(), caller.Caller{}); err != nil || got.UID != 0 {
		t.Errorf("a program got an account: %+v, %v", got, err)
	}
}

func TestAccountNames(t *testing.T) {
	t.Parallel()
	for login, want := range map[string]string{
		"ann.smith@contoso.com":                        "ann-smith",
		"bob_example.com#EXT#@contoso.onmicrosoft.com": "bob-example-com",
		"7of9@contoso.com":                             "u7of9",
		"Zoë@contoso.com":                              "zo",
		"../../etc/passwd@x":                           "etc-passwd",
		"-rf@x":                                        "rf",
		"ann\n:0:0::/root:/bin/sh@x":                   "ann-0-0-root-bin-sh",
		strings.Repeat("abcd", 20) + "@x":              strings.Repeat("abcd", 8),
		strings.Repeat("a", 31) + ".b@x":               strings.Repeat("a", 31),
		"systemd-network@x":                            "usystemd-network",
		"dsvm-lab@x":                                   "udsvm-lab",
		"sudo@x":                                       "",
	} {
		if got := service.AccountName(login, 1); got != want {
			t.Errorf("%q: got %q, want %q", login, got, want)
		}
	}
}

var form = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func FuzzAccountName(f *testing.F) {
	f.Add("ann@contoso.com", 2)
	f.Fuzz(func(t *testing.T, login string, n int) {
		if got := service.AccountName(login, n%1000+1000); got != "" && !form.MatchString(got) {
			t.Errorf("%q: %q", login, got)
		}
	})
}

// Many people at once, in several processes, over tables that lose requests and answers: each
// gets one account, and no uid and no name is given twice. Any of the calls may end in an
// error, which is what a kill looks like from outside; the next one finds the same account.
func TestAccountsUnderFailures(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	processes := make([]*service.Users, 4)
	for i := range processes {
		processes[i] = service.NewUsers(app.Store, app.Clock.Now)
	}
	const people = 12
	var mu sync.Mutex
	seen := map[string]caller.Caller{}
	note := func(c caller.Caller) {
		mu.Lock()
		defer mu.Unlock()
		before, ok := seen[c.ID]
		if ok && (before.UID != c.UID || before.Name != c.Name) {
			t.Errorf("%s was %s %d and is %s %d", c.ID, before.Name, before.UID, c.Name, c.UID)
		}
		seen[c.ID] = c
	}
	for _, do := range []chaos.Action{chaos.Lose, chaos.Disconnect, chaos.Throttle} {
		if _, err := app.Chaos.Add(chaos.Injection{Do: do, Target: "tables/transaction", Probability: 0.1}); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for i, users := range processes {
		for n := range people {
			group.Go(func() {
				id := fmt.Sprintf("p-%d", (n+i)%people)
				if c, err := users.Find(t.Context(), person(id, "ann@contoso.com")); err == nil {
					note(c)
				}
			})
		}
	}
	group.Wait()
	app.Chaos.Remove("")
	fresh := service.NewUsers(app.Store, app.Clock.Now)
	uids, names := map[int]string{}, map[string]string{}
	for n := range people {
		c, err := fresh.Find(t.Context(), person(fmt.Sprintf("p-%d", n), "ann@contoso.com"))
		if err != nil {
			t.Fatal(err)
		}
		note(c)
		if other := uids[c.UID]; other != "" || names[c.Name] != "" {
			t.Errorf("%s has uid %d and name %s, as %s has", c.ID, c.UID, c.Name, other+names[c.Name])
		}
		uids[c.UID], names[c.Name] = c.ID, c.ID
	}
}
