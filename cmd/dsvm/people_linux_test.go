package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"dsvmpools/agent/person"
	"dsvmpools/local"
	"dsvmpools/local/identity"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// peoplePool has one node for two people, who are warned after seconds.
const peoplePool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1s",
	"sessions":{"resources":{"cpus":1},"jupyter":"off","idleAfter":"3s","warning":"4s"}}`

// screen keeps what a program writes.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(piece []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(piece)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// laptop is the machine of a person, who has signed in: the system's ssh, and dsvm itself.
type laptop struct {
	*instance
	login, home string
	env         []string
}

func (i *instance) laptop(login, secret string) *laptop {
	i.t.Helper()
	l := &laptop{instance: i, login: login, home: i.t.TempDir()}
	l.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "VSCODE_") || strings.HasPrefix(v, "DSVM_")
	}), "HOME="+l.home, "DSVM_CONFIG_DIR="+l.home+"/config", "DSVM_URL="+i.URL)
	l.signIn(secret)
	l.must("ssh_config", os.Args[0], "ssh", "config")
	return l
}

func (l *laptop) command(name string, args ...string) (*exec.Cmd, *screen) {
	out := &screen{}
	c := exec.CommandContext(l.ctx, name, args...)
	c.Env, c.Dir, c.Stdout, c.Stderr = l.env, l.home, out, out
	return c, out
}

// run runs a program to its end.
func (l *laptop) run(name string, args ...string) (string, error) {
	c, out := l.command(name, args...)
	err := c.Run()
	return out.String(), err
}

func (l *laptop) must(want, name string, args ...string) {
	l.t.Helper()
	if out, err := l.run(name, args...); err != nil || !strings.Contains(out, want) {
		l.t.Fatalf("%s: %s %v: %v, and %q is not in:\n%s", l.login, name, args, err, want, out)
	}
}

func (l *laptop) sshArgs(args ...string) []string {
	return append([]string{"-F", filepath.Join(l.home, ".dsvm", "ssh_config")}, args...)
}

// signIn has somebody type the code that dsvm shows into the issuer's page.
func (l *laptop) signIn(secret string) {
	l.t.Helper()
	c, out := l.command(os.Args[0], "login")
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	asked := regexp.MustCompile(`open (\S+) and type the code (\S+);`)
	var m []string
	l.until("the code of "+l.login, func() bool { m = asked.FindStringSubmatch(out.String()); return m != nil })
	reply, err := http.PostForm(m[1], url.Values{"user_code": {m[2]}, "login": {l.login}, "secret": {secret}})
	if err != nil {
		l.t.Fatal(err)
	}
	reply.Body.Close()
	if err := c.Wait(); err != nil || !strings.Contains(out.String(), l.login) {
		l.t.Fatalf("%s signs in: %v\n%s", l.login, err, out)
	}
}

// terminal is a shell on the node that stays open.
type terminal struct {
	*screen
	keys io.Writer
	gone chan error
}

func (l *laptop) terminal() *terminal {
	l.t.Helper()
	c, out := l.command("ssh", l.sshArgs("-tt", "lab.dsvm")...)
	keys, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	at := &terminal{screen: out, keys: keys, gone: make(chan error, 1)}
	go func() { at.gone <- c.Wait() }()
	l.until("the greeting of "+l.login, func() bool { return strings.Contains(out.String(), "on node") })
	return at
}

// session is one's session of the pool, as the API tells it.
func (l *laptop) session(id string) wire.Session {
	l.t.Helper()
	found, err := l.client.Session(l.ctx, id)
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}

func (i *instance) lab() wire.Pool {
	i.t.Helper()
	p, err := i.client.Pool(i.ctx, "lab")
	if err != nil {
		i.t.Fatal(err)
	}
	return p
}

// sessionOf is the live session of an account.
func (i *instance) sessionOf(user string) wire.Session {
	i.t.Helper()
	all, err := i.client.Sessions(i.ctx, "lab", user)
	if err != nil || len(all) != 1 {
		i.t.Fatalf("the sessions of %s are %+v, %v", user, all, err)
	}
	return all[0]
}

// startPeople starts an instance where ann and bob have signed in, each on a laptop.
func startPeople(t testing.TB, document string, env ...string) (i *instance, ann, bob *laptop) {
	t.Helper()
	i, all := startCrowd(t, document, []string{"ann", "bob"}, env...)
	return i, all[0], all[1]
}

// startCrowd is startPeople with any people. One who is called ops is an operator of every team.
func startCrowd(t testing.TB, document string, names []string, env ...string) (*instance, []*laptop) {
	t.Helper()
	if err := person.CanServe(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("the client of OpenSSH is not installed")
	}
	const secret = "correct horse"
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var people bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&people, "%s@local:%s:vision,%s\n", name, hash, name)
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, people.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	roles := identity.OwnerGroup + "=operator; ops=operator; *=user"
	i := startInstance(t, map[string]string{"RECONCILE_SCHEDULE": "* * * * * *", "DSVM_FLEET_POLL": "100ms", "DSVM_ROLES": roles}, func(c *local.Config) {
		c.Users = users
		// A count takes the keeper some milliseconds, which are of the session: more often it would keep itself.
		c.AgentEnv = []string{"DSVM_SESSION_VOTES=1s", "DSVM_SESSION_GRACE=200ms", "DSVM_REPORT_EVERY=500ms"}
		c.AgentEnv = append(c.AgentEnv, env...)
	})
	i.apply(document)
	all := make([]*laptop, len(names))
	for k, name := range names {
		all[k] = i.laptop(name+"@local", secret)
	}
	return i, all
}

// connect has people get a place, all at once.
func (i *instance) connect(people ...*laptop) {
	i.t.Helper()
	var all sync.WaitGroup
	for _, l := range people {
		all.Go(func() {
			if out, err := l.run(os.Args[0], "connect", "lab"); err != nil || !strings.Contains(out, "You are on node") {
				i.t.Errorf("%s connects: %v\n%s", l.login, err, out)
			}
		})
	}
	all.Wait()
	if i.t.Failed() {
		i.t.FailNow()
	}
}

// TestPeopleOnOneMachine is a day of two people: from zero nodes they come in with OpenSSH's
// own client, each to an account of their own; both are warned; one types and stays, the other
// one's open window keeps nothing; and at the end the pool has no nodes, which a program that
// connects again and again does not change.
func TestPeopleOnOneMachine(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	i, ann, bob := startPeople(t, peoplePool)
	if p := i.lab(); p.Nodes.Total != 0 {
		t.Fatalf("the pool has nodes before anybody comes: %+v", p.Nodes)
	}

	// From zero: ssh alone starts nothing, and dsvm connect does.
	if out, err := ann.run("ssh", ann.sshArgs("lab.dsvm", "true")...); err == nil || !strings.Contains(out, "you have no session in pool") {
		t.Errorf("without a session: %v\n%s", err, out)
	}
	i.connect(ann, bob)
	sessions := map[*laptop]wire.Session{ann: i.sessionOf("ann"), bob: i.sessionOf("bob")}
	if sessions[ann].Node == "" || sessions[ann].Node != sessions[bob].Node {
		t.Errorf("they are on the nodes %q and %q, want one", sessions[ann].Node, sessions[bob].Node)
	}
	for l, user := range map[*laptop]string{ann: "ann", bob: "bob"} {
		l.must(fmt.Sprintf("%s %d /home/%[1]s", user, sessions[l].UID), "ssh",
			l.sshArgs("lab.dsvm", "echo mine >private; chmod 644 private; echo $(id -un) $(id -u) $(pwd)")...)
	}
	for l, other := range map[*laptop]string{ann: "bob", bob: "ann"} {
		if out, err := l.run("ssh", l.sshArgs("lab.dsvm", "cat /home/"+other+"/private")...); err == nil || strings.Contains(out, "mine") {
			t.Errorf("%s reads the home of %s: %v\n%s", l.login, other, err, out)
		}
	}

	// Both leave a window open, and are warned there.
	windows := map[*laptop]*terminal{ann: ann.terminal(), bob: bob.terminal()}
	isWarned := func(l *laptop) {
		i.until("the warning of "+l.login, func() bool { return strings.Contains(windows[l].String(), "***") })
	}
	// Ann types, which takes the warning back; and then keeps it for an hour.
	isWarned(ann)
	i.until("that ann has taken the warning back", func() bool {
		if _, err := windows[ann].keys.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		return ann.session(sessions[ann].ID).EndsAt == nil && strings.Contains(windows[ann].String(), "goes on")
	})
	ann.must("", os.Args[0], "session", "extend", "lab", "1h")
	// Bob's open window keeps nothing.
	isWarned(bob)
	i.until("the end of bob's session", func() bool { return bob.session(sessions[bob].ID).State == wire.SessionEnded })
	if s := bob.session(sessions[bob].ID); s.End == nil || s.End.By != pool.EndIdle || !strings.Contains(s.End.Detail, "nobody had used it") {
		t.Errorf("bob's session ended as %+v", s.End)
	}
	if err := <-windows[bob].gone; err == nil {
		t.Error("bob's window has ended well")
	}
	// The files of his ssh still lead to the session that is gone; then he is told why.
	for _, want := range []string{"cannot be reached", "nobody had used it"} {
		if out, err := bob.run("ssh", bob.sshArgs("lab.dsvm", "true")...); err == nil || !strings.Contains(out, want) {
			t.Errorf("bob comes back: %v, and %q is not in:\n%s", err, want, out)
		}
	}
	if s := ann.session(sessions[ann].ID); s.State != wire.SessionReady || s.KeepUntil == nil {
		t.Errorf("ann's session is %+v", s)
	}
	ann.must("ann", "ssh", ann.sshArgs("lab.dsvm", "id -un")...)

	// Ann ends hers, and the pool has no nodes any more.
	ann.must("", os.Args[0], "session", "stop", "lab")
	if err := <-windows[ann].gone; err == nil {
		t.Error("ann's window has ended well")
	}
	i.until("a pool without nodes", func() bool { p := i.lab(); return p.Nodes.Total == 0 && p.Wanted == 0 })
	i.mu.Lock()
	before := len(i.asked)
	i.mu.Unlock()
	for _, l := range []*laptop{ann, bob, ann, bob} {
		out, err := l.run("ssh", l.sshArgs("lab.dsvm", "true")...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s rejoins: %v\n%s", l.login, err, out)
		}
	}
	all, err := i.client.Sessions(context.WithoutCancel(i.ctx), "lab", "")
	if p := i.lab(); err != nil || len(all) != 0 || p.Nodes.Total != 0 || p.Wanted != 0 || p.Queued != 0 {
		t.Errorf("after the rejoins there are %+v, %v in %+v", all, err, p)
	}
	i.mu.Lock()
	after := i.asked[before:]
	i.mu.Unlock()
	if slices.Max(append(after, 0)) > 0 {
		t.Errorf("the rejoins have asked for %v nodes", after)
	}
	if _, _, err := i.client.OpenSession(i.ctx, wire.SessionRequest{Pool: "lab"}); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("the key opens a session: %v", err)
	}
}

// TestLabsOnOneMachine has two people, whose sessions share a node, open their JupyterLab, as a
// browser does: each finds the own files.
func TestLabsOnOneMachine(t *testing.T) {
	t.Parallel()
	jupyter := jupyterUnderTest(t)
	i, ann, bob := startPeople(t, `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":1},
		"sessions":{"resources":{"cpus":1}}}`, "DSVM_JUPYTER="+jupyter)
	i.connect(ann, bob)
	for l, name := range map[*laptop]string{ann: "ann", bob: "bob"} {
		l.must("", "ssh", l.sshArgs("lab.dsvm", "touch file-of-"+name)...)
	}
	for l, name := range map[*laptop]string{ann: "ann", bob: "bob"} {
		at, cookie := l.openLab()
		var files string
		i.until("the JupyterLab of "+l.login, func() bool { // it may still be starting
			status, body, _ := l.browse(http.MethodGet, at.JoinPath("api/contents"), "", cookie)
			files = body
			return status == http.StatusOK
		})
		if strings.Count(files, `"file-of-`) == 0 || !strings.Contains(files, `"file-of-`+name+`"`) || strings.Contains(files, `"file-of-ann"`) != (name == "ann") {
			t.Errorf("the JupyterLab of %s has %s", l.login, files)
		}
	}
}

// openLab comes in to one's JupyterLab with a ticket, and returns where it is, and the cookie.
func (l *laptop) openLab() (at *url.URL, cookie string) {
	l.t.Helper()
	out, err := l.run(os.Args[0], "jupyter", "lab", "--no-browser")
	address, ticket, isTicket := strings.Cut(strings.TrimSpace(out), "#")
	page, wrong := url.Parse(address)
	if err != nil || wrong != nil || !isTicket {
		l.t.Fatalf("dsvm jupyter: %v\n%s", err, out)
	}
	status, body, header := l.browse(http.MethodPost, page, `{"ticket":"`+ticket+`"}`, "")
	cookie, _, _ = strings.Cut(header.Get("Set-Cookie"), ";") // it is for https, as the relay has it in the cloud
	if status != http.StatusNoContent || cookie == "" {
		l.t.Fatalf("the ticket of %s is answered with %d %s", l.login, status, body)
	}
	return page.JoinPath("../.."), cookie
}

func (l *laptop) browse(method string, at *url.URL, body, cookie string) (int, string, http.Header) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Origin", at.Scheme+"://"+at.Host)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return reply.StatusCode, string(text), reply.Header
}
