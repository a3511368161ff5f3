package cli

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/local/identity"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/signin"
	"dsvmpools/shared/wire"
)

// desk is a command line of somebody without a key, at an instance with an issuer, in whose
// file ann is a user of vision.
type desk struct {
	*bench
	issuer *identity.Server
	users  string
	config string
	out    *watched
}

// watched is a standard error that somebody reads while the program runs.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	seen chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	select {
	case w.seen <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{bench: newBench(t), users: filepath.Join(dir, "users"), config: filepath.Join(dir, "config"), out: &watched{seen: make(chan struct{}, 1)}}
	if err := os.WriteFile(d.users, []byte("ann@local:"+string(hash)+":vision\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.issuer, err = identity.Start(identity.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "issuer.json"), Users: d.users,
		Owner: "owner@local", Log: slog.New(slog.DiscardHandler), Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.issuer.Close() })
	tokens, err := signin.New(signin.Config{Issuer: d.issuer.URL(), Audiences: []string{d.issuer.Client()}, Tenant: d.issuer.Tenant()})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := caller.ParseRules(identity.OwnerGroup + "=operator; vision=user:vision")
	if err != nil {
		t.Fatal(err)
	}
	api := httpapi.New(httpapi.Services{
		Jobs: d.app.Jobs, Pools: d.app.Pools, Nodes: d.app.Nodes, Usage: d.app.Ledger, Pushes: d.app.Pushes, Doctor: d.app.Doctor, Trees: d.app.Trees,
		Rejected: d.app.Rejected, Users: d.app.Users, Audit: d.app.Audit,
		Access: httpapi.Access{Tokens: tokens, Roles: rules,
			SignIn: wire.SignIn{Issuer: d.issuer.URL(), ClientID: d.issuer.Client(), Scope: identity.Scope}},
	}, d.app.Share, d.app.Log)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/web/") { // the host asks for a key there
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	env := map[string]string{"DSVM_URL": web.URL, "DSVM_CONFIG_DIR": d.config}
	d.program.Getenv = func(name string) string { return env[name] }
	d.program.Now = time.Now
	return d
}

var asked = regexp.MustCompile(`open (\S+) and type the code (\S+);`)

// login signs ann in, with the code that the command line shows.
func (d *desk) login(secret string) (code int, out, errs string) {
	d.t.Helper()
	d.program.Err = d.out
	type end struct {
		code int
		out  string
	}
	done := make(chan end)
	go func() {
		code, out, _ := d.run("login")
		done <- end{code, out}
	}()
	for {
		select {
		case e := <-done:
			d.program.Err = &d.bench.err
			return e.code, e.out, d.out.String()
		case <-d.out.seen:
			if m := asked.FindStringSubmatch(d.out.String()); m != nil {
				reply, err := http.PostForm(m[1], url.Values{"user_code": {m[2]}, "login": {"ann@local"}, "secret": {secret}})
				if err != nil {
					d.t.Fatal(err)
				}
				reply.Body.Close()
			}
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if code, _, errs := d.run("pool", "list"); code != 1 || !strings.Contains(errs, "DSVM_KEY") {
		t.Errorf("without a sign-in: exit %d, %q", code, errs)
	}
	if code, out, errs := d.login("correct horse"); code != 0 || !strings.Contains(out, "ann") || !strings.Contains(out, "user in team vision") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	file := filepath.Join(d.config, tokensFile)
	if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the tokens have mode %v, %v", at.Mode(), err)
	}
	var me wire.Me
	if code, out, errs := d.run("whoami", "-o", "json"); code != 0 || json.Unmarshal([]byte(out), &me) != nil || me.Name != "ann" || me.UID != 200000 {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs := d.run("pool", "list"); code != 0 || !strings.Contains(out, "cpu") {
		t.Errorf("a list: exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs := d.run("pool", "delete", "gpu", "--yes"); code != 1 || !strings.Contains(errs, "this needs the role operator in every team") {
		t.Errorf("what ann may not do: exit %d, %q", code, errs)
	}
	if code, _, errs := d.run("job", "submit", "--pool", "cpu", "--id", "own", "--", "true"); code != 0 {
		t.Errorf("a job: exit %d, %q", code, errs)
	}
	if code, out, _ := d.run("job", "show", "own", "-o", "json"); code != 0 || !strings.Contains(out, `"user":"ann"`) && !strings.Contains(out, `"user": "ann"`) {
		t.Errorf("the job: exit %d, %s", code, out)
	}

	// An old token is renewed without a word.
	old := d.age(file)
	if code, _, errs := d.run("pool", "list"); code != 0 || errs != "" {
		t.Errorf("an old token: exit %d, %q", code, errs)
	}
	if text, _ := os.ReadFile(file); strings.Contains(string(text), old) {
		t.Error("the old token was not replaced")
	}
	// A sign-in that is over says what to do.
	d.age(file)
	if err := os.WriteFile(d.users, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(d.users, time.Time{}, time.Now().Add(time.Minute))
	if code, _, errs := d.run("pool", "list"); code != 1 || !strings.Contains(errs, "sign in again with `dsvm login`") {
		t.Errorf("a sign-in that is over: exit %d, %q", code, errs)
	}
	if code, _, errs := d.run("logout"); code != 0 || errs != "" {
		t.Errorf("logout: exit %d, %q", code, errs)
	}
	if text, _ := os.ReadFile(file); strings.Contains(string(text), "refresh_token") {
		t.Errorf("after logout: %s", text)
	}
	if _, _, errs := d.run("pool", "list", "-o", "json"); !strings.Contains(errs, `"urn:dsvm:problem:unauthorized"`) {
		t.Errorf("a script after logout: %s", errs)
	}
	if code, _, errs := d.run("logout"); code != 0 || !strings.Contains(errs, "nobody has signed in") {
		t.Errorf("logout again: exit %d, %q", code, errs)
	}
}

// age makes the token old, and returns it.
func (d *desk) age(file string) string {
	d.t.Helper()
	all, err := d.program.readTokens()
	if err != nil || len(all) != 1 {
		d.t.Fatalf("got %d sign-ins, %v", len(all), err)
	}
	token := ""
	for name, row := range all {
		token = row.Token.AccessToken
		row.Token.Expiry = time.Now().Add(-time.Hour)
		all[name] = row
	}
	if err := d.program.writeTokens(all); err != nil {
		d.t.Fatal(err)
	}
	return token
}

// Others may not read the tokens, and an instance may not send secrets to strangers.
func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if code, _, errs := d.login("correct horse"); code != 0 {
		t.Fatalf("exit %d, %q", code, errs)
	}
	file := filepath.Join(d.config, tokensFile)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := d.run("pool", "list"); code != 1 || !strings.Contains(errs, "chmod 600") {
		t.Errorf("exit %d, %q", code, errs)
	}
	for _, issuer := range []string{"http://login.example.com", "ftp://127.0.0.1", "https://u:p@login.example.com", "", "http://127.0.0.1.example.com"} {
		if _, err := discover(t.Context(), issuer); err == nil || !strings.Contains(err.Error(), "neither https nor on this machine") {
			t.Errorf("%q: got %v", issuer, err)
		}
	}
	if _, err := discover(t.Context(), strings.Replace(d.issuer.URL(), "127.0.0.1", "localhost", 1)); err == nil {
		t.Error("an issuer of another name is believed")
	}
}

// The owner of an instance on this machine is a person without signing in, where one is needed.
func TestOwnerIsAPerson(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	token, _, err := d.issuer.OwnerToken()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "owner.token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(Instance{URL: d.program.Getenv("DSVM_URL"), Key: "k", TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, InstanceFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, InstanceFolder, InstanceFile), body, 0o600); err != nil {
		t.Fatal(err)
	}
	d.program.Dir, d.program.Getenv = dir, func(name string) string { return map[string]string{"DSVM_CONFIG_DIR": d.config}[name] }
	if code, out, errs := d.run("whoami"); code != 0 || !strings.Contains(out, "owner@local") || !strings.Contains(out, "operator in every team") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

// The trail has who did it, as a table and as JSON.
func TestAuditTable(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ops := caller.Caller{ID: "x", Login: "ann@local", Name: "ann", From: "203.0.113.7"}
	for _, c := range []caller.Caller{ops, {}} {
		end, err := d.app.Audit.Begin(t.Context(), c, "DELETE", "/api/pools/gpu")
		if err != nil {
			t.Fatal(err)
		}
		if d.app.Clock.Set(d.app.Clock.Now().Add(time.Second)); c.ID != "" {
			end(t.Context(), 204, "")
		}
	}
	b := d.bench
	inner := newAuditBench(t, d)
	b.program.Getenv = func(name string) string { return inner[name] }
	b.program.Now = func() time.Time { return apptest.Noon.Add(time.Minute) }
	code, out, errs := b.run("audit", "--since", "1d")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	for i, want := range []string{"WHEN WHO FROM METHOD TARGET STATUS MADE", "key - DELETE /api/pools/gpu not known -", "ann 203.0.113.7 DELETE /api/pools/gpu 204 -"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasSuffix(got, want) {
			t.Errorf("line %d: got %q, want %q", i, got, want)
		}
	}
	var all []wire.AuditEntry
	if code, out, errs := b.run("audit", "--user", "ann", "-o", "json"); code != 0 || json.Unmarshal([]byte(out), &all) != nil || len(all) != 1 || all[0].ID != "x" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs := b.run("audit", "--limit", "1"); code != 0 || !strings.Contains(errs, "there are more") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if code, _, errs := b.run("audit", "--limit", "1", "-o", "json"); code != 0 || errs != "" {
		t.Errorf("with -o json: exit %d, %q", code, errs)
	}
	if code, _, errs := b.run("audit", "--user", "bob"); code != 0 || !strings.Contains(errs, "nothing was changed") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// newAuditBench is the environment of a program with the key, at an instance with a trail.
func newAuditBench(t *testing.T, d *desk) map[string]string {
	t.Helper()
	web := httptest.NewServer(httpapi.New(httpapi.Services{Audit: d.app.Audit}, d.app.Share, d.app.Log))
	t.Cleanup(web.Close)
	return map[string]string{"DSVM_URL": web.URL, "DSVM_KEY": "k"}
}

// A person reads parameters as they were typed; what is no address stays as it is.
func TestReadableTarget(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/api/jobs/one/cancel": "/api/jobs/one/cancel",
		"/api/nodes/n/certificate?pool=cpu&reason=the+disk+is+f%C3%BCll": "/api/nodes/n/certificate pool=cpu reason=the disk is füll",
		"/api/pools?reason=cut%C": "/api/pools?reason=cut%C",
		"/api/pools?":             "/api/pools",
	} {
		if got := readableTarget(target); got != want {
			t.Errorf("%q: got %q, want %q", target, got, want)
		}
	}
}
