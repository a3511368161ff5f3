package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/service"
)

// A session is kept no longer than its pool allows, and the person learns that.
func TestExtendSaysWhereThePoolEndsIt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.comesUp()
	if code, _, errs := l.run("connect", "lab"); code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := l.run("session", "extend", "lab", "8h"); code != 0 || out != "2026-03-02 20:00:00 UTC\n" || errs != "" {
		t.Errorf("within maxAge: got %d %q %q", code, out, errs)
	}
	const want = "dsvm: the session is not kept for 30d: by `sessions.maxAge` or its schedule, pool \"lab\" ends it earlier\n"
	if code, out, errs := l.run("session", "extend", "lab", "30d"); code != 0 || errs != want || !strings.HasPrefix(out, "2026-03-07 12:15:") {
		t.Errorf("beyond maxAge: got %d %q %q", code, out, errs)
	}
	if _, out, _ := l.run("session", "extend", "lab", "30d", "-o", "json"); !strings.Contains(out, `"keepCut": true`) {
		t.Errorf("as JSON: got %s", out)
	}
}

// Who forgets the flag is told of it.
func TestListsTakeTheirPoolByAFlag(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, noun := range []string{"session", "node", "job"} {
		want := "dsvm: `dsvm " + noun + " list` takes no argument; did you mean `dsvm " + noun + " list --pool lab`?\n"
		if code, _, errs := l.run(noun, "list", "lab"); code != codeWrongUse || errs != want {
			t.Errorf("%s list lab: got %d %q, want %q", noun, code, errs, want)
		}
	}
	if code, _, errs := l.run("session", "list", "lab", "cpu"); code != codeWrongUse || !strings.Contains(errs, "takes no arguments") {
		t.Errorf("with two: got %d %q", code, errs)
	}
}

// The audit trail says who did what also on a narrow terminal.
func TestAuditOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	end, err := d.app.Audit.Begin(t.Context(), caller.Caller{ID: "x", Login: "ann@local", Name: "ann", From: "203.0.113.7"}, "POST",
		"/api/sessions/01kb5v7k3a1x2y3z4w5v6t7s8r/extend")
	if err != nil {
		t.Fatal(err)
	}
	end(t.Context(), http.StatusAccepted, "/api/sessions/01kb5v7k3a1x2y3z4w5v6t7s8r")
	inner := newAuditBench(t, d)
	d.bench.program.Getenv = func(name string) string { return inner[name] }
	d.bench.program.Now = func() time.Time { return apptest.Noon.Add(time.Minute) }
	d.bench.program.Width = 60
	_, out, errs := d.bench.run("audit", "--since", "1d")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q, %q", out, errs)
	}
	for _, line := range lines {
		if wide := uniseg.StringWidth(line); wide > 60 {
			t.Errorf("%d columns: %s", wide, line)
		}
	}
	for _, want := range []string{"60s", "ann", "/api/sessions/01kb5v", "202"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("%q is not in %q", want, lines[1])
		}
	}
}

// Who signs out takes the way into sessions along, and nothing else of the folder.
func TestLogoutForgetsTheWayIn(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bench.program.Home = t.TempDir()
	dir := filepath.Join(d.bench.program.Home, InstanceFolder)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{"lab.dsvm-cert.pub": false, "lab.dsvm.door": false, "id_ed25519": true, "id_ed25519.pub": true,
		"known_hosts": true, "ssh_config": true}
	for name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.bench.program.writeTokens(map[string]signedIn{instanceKey(d.bench.program.Getenv("DSVM_URL")): {}}); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := d.bench.run("logout"); code != 0 {
		t.Fatal(errs)
	}
	for name, stays := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s is there: %t, want %t", name, err == nil, stays)
		}
	}
}

// A pool without JupyterLab does not offer it, and wakes no node for it.
func TestPoolWithoutJupyterLab(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.lacks = map[string]string{"ssh": "install openssh-server"}
	if err := l.app.Apply(t.Context(), `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},
		"sessions":{"jupyter":"off"}}`); err != nil {
		t.Fatal(err)
	}
	const why = "the pool's document says `jupyter: off`"
	code, out, errs := l.run("jupyter", "lab", "--no-browser")
	if all, err := l.app.Sessions.List(t.Context(), "lab", ""); code == 0 || !strings.Contains(errs, `pool "lab" has no JupyterLab: `+why) || err != nil || len(all) > 0 {
		t.Errorf("jupyter: got %d %q %q, and the sessions %+v, %v", code, out, errs, all, err)
	}
	l.comesUp()
	if code, out, errs := l.run("connect", "lab"); code != 0 || strings.Contains(out, "dsvm jupyter") || !strings.Contains(out, "no JupyterLab: "+why) {
		t.Errorf("connect: got %d\n%s%s", code, out, errs)
	}
	if code, _, errs := l.run("ssh", "lab"); code == 0 || strings.Contains(errs, "dsvm jupyter") || !strings.Contains(errs, "nor a JupyterLab: "+why) {
		t.Errorf("ssh: got %d %q", code, errs)
	}
}

// What a node lacks is said wherever somebody would miss it, and no way is shown that leads
// nowhere.
func TestWhatANodeLacksIsSaid(t *testing.T) {
	t.Parallel()
	const root, sshd, jupyter = "sessions run as ann", "install openssh-server", "install JupyterLab"
	for name, test := range map[string]struct {
		lacks map[string]string
		says  map[string]string // by command, in either output; ! before it = it is not there
		fails []string
	}{
		"no JupyterLab": {map[string]string{"jupyter": jupyter}, map[string]string{
			"jupyter lab --no-browser": `node "dsvm-lab-d2s-v5_0" has no JupyterLab: install JupyterLab`,
			"connect lab":              "!dsvm jupyter lab", "session show lab": "no JupyterLab: install JupyterLab",
		}, []string{"jupyter lab --no-browser"}},
		"one account, no SSH": {map[string]string{"users": root, "ssh": sshd}, map[string]string{
			"connect lab":                    "no SSH: install openssh-server",
			"session show lab":               "one account: sessions run as ann",
			"node list":                      "one account: sessions run as ann; no SSH: install openssh-server",
			"ssh lab -- true":                `has no SSH: install openssh-server; ` + "`dsvm jupyter lab` opens JupyterLab there",
			"session ready --for lab.dsvm":   "has no SSH: install openssh-server",
			"jupyter lab --no-browser":       "https://lab.servicebus.windows.net/lab-1-web/dsvm/login?session=",
			"node list -o json":              `"ssh": "install openssh-server"`,
			"session show lab -o json":       `"users": "sessions run as ann"`,
			"session extend lab 1h":          "2026-03-02",
			"session explain lab -o json":    `"ready"`,
			"connect lab --team vision":      "!dsvm ssh lab",
			"session list --pool lab --utc ": "ann",
		}, []string{"ssh lab -- true", "session ready --for lab.dsvm"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.lacks = test.lacks
			l.comesUp()
			if code, _, errs := l.run("connect", "lab"); code != 0 {
				t.Fatal(errs)
			}
			for command, want := range test.says {
				code, out, errs := l.run(strings.Fields(command)...)
				want, isAbsent := strings.CutPrefix(want, "!")
				if strings.Contains(out+errs, want) == isAbsent || (code != 0) != slices.Contains(test.fails, command) {
					t.Errorf("%s: got %d\n%s%s; want %q (absent: %t)", command, code, out, errs, want, isAbsent)
				}
			}
		})
	}
}

// Where sessions run as one account, nobody else gets one, and is told why.
func TestSessionsOfOnePerson(t *testing.T) {
	t.Parallel()
	for only, mine := range map[string]bool{"a-1": true, "b-2": false} {
		l := newLab(t, func(c *service.Config) { c.SessionsFor = only })
		l.comesUp()
		code, out, errs := l.run("connect", "lab")
		if (code == 0) != mine || strings.Contains(errs, "sessions are for the owner of this instance alone, since") == mine {
			t.Errorf("for %s: got %d\n%s%s", only, code, out, errs)
		}
		if all, err := l.app.Sessions.List(t.Context(), "lab", ""); err != nil || (len(all) == 1) != mine {
			t.Errorf("for %s: there are %+v, %v", only, all, err)
		}
	}
}
