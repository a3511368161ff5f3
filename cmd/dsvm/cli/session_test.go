package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/wire"
)

// passes takes the token "ann" for a person of team vision.
type passes struct{}

func (passes) Check(_ context.Context, token string) (caller.Person, error) {
	if token != "ann" {
		return caller.Person{}, &caller.Refused{Reason: "it is no token"}
	}
	return caller.Person{ID: "a-1", Login: "ann@contoso.com"}, nil
}

// lab is an instance with an interactive pool, whose node comes up when it is asked to.
type lab struct {
	*bench
	mu   sync.Mutex
	boot func() // when a session is looked at; nil = nothing happens

	lacks map[string]string // what sessions lack on the node that comes up
}

func newLab(t *testing.T, options ...apptest.Option) *lab {
	t.Helper()
	l := &lab{bench: newBench(t, append(options, apptest.WithDoors(t))...)}
	if err := l.app.Apply(t.Context(), `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`); err != nil {
		t.Fatal(err)
	}
	l.before = func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Set("Authorization", "Bearer ann")
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.boot != nil && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/sessions/") {
			l.boot()
		}
		return false
	}
	l.program.Home = t.TempDir()
	return l
}

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICmaMSfDrKa2dIhTp4JydV6fFRvwxNdTNSaFLFk300O"

// comesUp has the node come up at the first look at a session.
func (l *lab) comesUp() {
	var once sync.Once
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boot = func() {
		once.Do(func() {
			ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", HostKeys: []string{hostKey}, Missing: l.lacks,
				Features: append(protocol.Features(), protocol.FeatureSession)}
			l.reportLab(protocol.ReportItem{Ready: ready})
			for _, item := range l.app.Bus.TakeWork(protocol.SessionID("lab", "lab-0")) {
				if item.Assign != nil && item.Assign.Session != nil {
					l.reportLab(protocol.ReportItem{Started: &protocol.Started{N: item.N, At: l.app.Clock.Now()}})
				}
			}
		})
	}
}

func (l *lab) reportLab(item protocol.ReportItem) {
	if err := l.app.Report(context.Background(), "lab", "lab-0", item); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) file(name string) string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.program.Home, ".dsvm", name))
	if err != nil {
		l.t.Error(err)
	}
	return string(text)
}

func TestConnectWaitsAndWritesTheFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.comesUp()
	code, out, errs := l.run("connect", "lab")
	if code != 0 || !strings.Contains(out, "You are on node dsvm-lab-d2s-v5_0 (Standard_D2s_v5).") || !strings.Contains(out, "dsvm ssh lab") ||
		!strings.Contains(errs, `dsvm: your session in pool "lab" is waiting: `) {
		t.Errorf("got %d\n%s\n%s", code, out, errs)
	}
	if got := l.file("known_hosts"); got != "lab.dsvm "+hostKey+"\n" {
		t.Errorf("known_hosts is %q", got)
	}
	if got := l.file("lab.dsvm-cert.pub"); !strings.HasPrefix(got, "ssh-ed25519-cert-v01@openssh.com ") {
		t.Errorf("the certificate is %q", got)
	}
	door, said, err := l.program.ReadDoor("lab.dsvm")
	if err != nil || said || len(door.Doors) != 1 || door.Doors[0].URL != "wss://lab.servicebus.windows.net/$hc/lab-1/ssh/"+door.Session {
		t.Errorf("the door is %+v, %t, %v", door, said, err)
	}
	code, out, _ = l.run("connect", "lab", "-o", "json")
	var s wire.Session
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil || s.State != wire.SessionReady || s.User != "ann" {
		t.Errorf("got %d %s, %v", code, out, err)
	}
	for args, want := range map[string]string{
		"session list":                      "lab   ann   ready  dsvm-lab-d2s-v5_0",
		"session list --pool lab -o json":   `"id": "` + s.ID + `"`,
		"session show lab":                  "ann (20000",
		"session show " + s.ID + " -o json": `"state": "ready"`,
		"session explain lab":               "session " + s.ID + " is ready: ",
		"session extend lab 2h":             "2026-03-02 14:00:00 UTC",
		"jupyter lab --no-browser":          "https://lab.servicebus.windows.net/lab-1-web/dsvm/login?session=",
		"session stop lab":                  "ending",
	} {
		if strings.HasPrefix(args, "session stop") {
			continue
		}
		if code, out, errs := l.run(strings.Fields(args)...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: got %d\n%s%s; want %s", args, code, out, errs, want)
		}
	}
	if code, out, errs := l.run("session", "stop", "--user", "bob"); code != 0 || out != "" || !strings.Contains(errs, "no session of bob") {
		t.Errorf("of nobody: got %d %s%s", code, out, errs)
	}
	if code, out, errs := l.run("session", "stop", "--user", "ann"); code != 0 || !strings.Contains(out, "lab   ann   ending") {
		t.Errorf("all of ann: got %d %s%s", code, out, errs)
	}
	if code, _, errs := l.run("session", "stop", "lab", "--user", "ann"); code != 2 || !strings.Contains(errs, "leave \"lab\" out") {
		t.Errorf("both: got %d %s", code, errs)
	}
	if code, out, errs := l.run("session", "stop", "lab"); code != 0 || out != "ending\n" {
		t.Errorf("got %d %s%s", code, out, errs)
	}
	if code, _, errs := l.run("session", "extend", "lab"); code != 1 || !strings.Contains(errs, "cannot be kept") {
		t.Errorf("extending one that ends: got %d %s", code, errs)
	}
}

// Whoever gives up waiting ends what this call has started, and nothing else.
func TestConnectGivesUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	code, _, errs := l.run("connect", "lab", "--timeout", "1ms")
	if code != 1 || !strings.Contains(errs, "was not ready within 1ms, and is asked to end") {
		t.Errorf("got %d %s", code, errs)
	}
	if all, err := l.app.Sessions.List(t.Context(), "lab", ""); err != nil || len(all) != 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
	ann := caller.With(t.Context(), caller.Caller{ID: "a-1", Name: "ann", UID: 200000, Teams: map[string]caller.Role{"vision": caller.User}})
	earlier, _, err := l.app.Sessions.Open(ann, "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs = l.run("connect", "lab", "--timeout", "1ms")
	if code != 1 || !strings.Contains(errs, "it goes on; `dsvm session stop lab` ends it") {
		t.Errorf("got %d %s", code, errs)
	}
	if now, err := l.app.Sessions.Session(t.Context(), earlier.ID); err != nil || now.State != wire.SessionWaiting {
		t.Errorf("it is %+v, %v", now, err)
	}
}

// terminalOf answers questions, and keeps what was written.
type terminalOf struct {
	io.Reader
	bytes.Buffer
}

func (t *terminalOf) Read(b []byte) (int, error) { return t.Reader.Read(b) }
func (t *terminalOf) Close() error               { return nil }

// What ssh runs before it connects starts no session by itself: only a person at a terminal
// does. Without one, it says how the last session ended, and so does the door.
func TestReadyStartsNothingByItself(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		editor, terminal bool
		answer           string
		starts           bool
	}{
		"nobody there":         {},
		"an editor":            {editor: true, terminal: true, answer: "y\n"},
		"a person says no":     {terminal: true, answer: "n\n"},
		"a person says yes":    {terminal: true, answer: "y\n", starts: true},
		"a person just enters": {terminal: true, answer: "\n", starts: true},
		"the terminal closes":  {terminal: true, answer: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.comesUp()
			getenv := l.program.Getenv
			l.program.Getenv = func(name string) string {
				if name == "VSCODE_PID" && test.editor {
					return "1"
				}
				return getenv(name)
			}
			asked := &terminalOf{Reader: strings.NewReader(test.answer)}
			l.program.OpenTTY = func() (Terminal, error) {
				if !test.terminal {
					return nil, errors.New("no terminal")
				}
				return asked, nil
			}
			code, _, errs := l.run("session", "ready", "--for", "lab.dsvm")
			all, err := l.app.Sessions.List(t.Context(), "lab", "")
			if err != nil || (len(all) == 1) != test.starts || (code == 0) != test.starts {
				t.Errorf("got %d %s, and sessions %+v, %v", code, errs, all, err)
			}
			if strings.Contains(asked.String(), "Start another one?") != (test.terminal && !test.editor) {
				t.Errorf("at the terminal: %q", asked.String())
			}
			if test.starts {
				return
			}
			if !test.terminal && !strings.Contains(errs, "you have no session in pool \"lab\"; start one with `dsvm connect lab`") {
				t.Errorf("it says %q", errs)
			}
			if door, said, err := l.program.ReadDoor("lab.dsvm"); err != nil || door.Closed == "" || said {
				t.Errorf("the door is %+v, %t, %v", door, said, err) // the clock of the test stands at another day
			}
		})
	}
}

// Files that are fresh are not asked for again, and others are.
func TestReadyAsksOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.comesUp()
	if code, _, errs := l.run("connect", "lab"); code != 0 {
		t.Fatal(errs)
	}
	requests := 0
	inner := l.before
	l.before = func(w http.ResponseWriter, r *http.Request) bool {
		requests++
		return inner(w, r)
	}
	door := filepath.Join(l.program.Home, ".dsvm", "lab.dsvm.door")
	for _, c := range []struct {
		age  time.Duration
		asks bool
	}{{time.Minute, false}, {3 * time.Minute, true}, {-time.Minute, true}} {
		at := apptest.Noon.Add(-c.age)
		if err := os.Chtimes(door, at, at); err != nil {
			t.Fatal(err)
		}
		requests = 0
		if code, _, errs := l.run("session", "ready", "--for", "lab.dsvm"); code != 0 || requests > 0 != c.asks {
			t.Errorf("files of %s: got %d %s, and %d requests", c.age, code, errs, requests)
		}
	}
	for _, host := range []string{"", "lab", "a/b.dsvm", "../x.dsvm", "LAB.dsvm"} {
		if code, _, errs := l.run("session", "ready", "--for", host); code != codeWrongUse {
			t.Errorf("%q: got %d %s", host, code, errs)
		}
	}
}

// Known hosts of all pools stay when two are written at once.
func TestKnownHosts(t *testing.T) {
	t.Parallel()
	folder := sshFolder(t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			host := fmt.Sprintf("p%d.dsvm", i)
			for _, key := range []string{"old", "new"} {
				if err := folder.knowHost(host, []string{host + " ssh-ed25519 " + key}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(folder.path("known_hosts"))
	if err != nil || bytes.Count(text, []byte("\n")) != 8 || bytes.Contains(text, []byte("old")) {
		t.Errorf("known_hosts is %s, %v", text, err)
	}
	for _, line := range []string{"github.com ssh-ed25519 x", "p1.dsvm ssh-ed25519 x\n* ssh-ed25519 y", "p1.dsvm,* x"} {
		if err := folder.knowHost("p1.dsvm", []string{line}); err == nil {
			t.Errorf("%q was written", line)
		}
	}
}
