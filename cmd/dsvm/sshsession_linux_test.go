package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/service"
	"dsvmpools/shared/sshca"
	"dsvmpools/shared/wire"
)

// sshLab is the way of a person's ssh with all that is on this side of a node: the real use
// cases and API, dsvm itself as the programs that ssh starts, and the relay. The node is the
// test: it comes up after so many looks at the session, and leads to a server of OpenSSH.
type sshLab struct {
	t      *testing.T
	app    *apptest.Instance
	ctx    context.Context
	home   string
	dir    string // of the node's server
	host   ssh.PublicKey
	env    []string
	listen func(door *protocol.Door)

	mu    sync.Mutex
	looks int // until the node comes up; 0 = it does not
	given *protocol.Session
}

// testUsers gives everybody the account of whoever runs the test: the node is this machine.
type testUsers struct{ name string }

func (u testUsers) Find(_ context.Context, c caller.Caller) (caller.Caller, error) {
	c.Name, c.UID = u.name, 200101
	return c, nil
}

type testTokens struct{}

func (testTokens) Check(context.Context, string) (caller.Person, error) {
	return caller.Person{ID: "a-1", Login: "ann@contoso.com"}, nil
}

func newSSHLab(t *testing.T) *sshLab {
	t.Helper()
	for _, name := range []string{"ssh", "scp", "sftp", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s here", name)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd asks for it
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	l := &sshLab{t: t, ctx: ctx, home: t.TempDir(), dir: t.TempDir()}

	server, err := localrelay.Start(localrelay.Config{Addr: "127.0.0.1:0", Rules: []localrelay.Rule{
		{Name: relay.RuleListen, Key: "bGlzdGVu", Listen: true}, {Name: relay.RuleSend, Key: "c2VuZA==", Send: true}},
		Entities: []localrelay.Entity{{Name: "lab-1"}, {Name: "lab-1-web", Anonymous: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	namespace, err := relay.ParseNamespace("http://" + server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := sshca.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	ca, err := sshca.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doors, err := service.NewDoors(ca, &relay.Doors{Namespace: namespace, ListenKey: "bGlzdGVu", SendKey: "c2VuZA==",
		Ensure: func(context.Context, string, bool) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	// The clock is that of the machine: OpenSSH looks at it.
	l.app = apptest.New(t, func(c *service.Config) { c.Doors, c.Now = doors, func() time.Time { return time.Now().UTC() } })
	if err := l.app.Apply(ctx, `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`); err != nil {
		t.Fatal(err)
	}
	api := httpapi.New(httpapi.Services{Sessions: l.app.Sessions, Pools: l.app.Pools, Users: testUsers{me.Username},
		Access: httpapi.Access{Tokens: testTokens{}, Roles: caller.Rules{{Subject: "a-1", Role: caller.User, Team: "vision"}}},
	}, l.app.Share, l.app.Log)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer ann")
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/sessions/") {
			l.look()
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	l.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "VSCODE_") }),
		"HOME="+l.home, "DSVM_URL="+web.URL, "DSVM_KEY=k")
	l.makeServer(me.Username)
	l.listen = func(door *protocol.Door) {
		at := relay.Listener{Address: door.URL, Token: func() string { return door.Token }, Socket: l.serve}
		go func() { _ = at.Run(ctx) }()
	}
	return l
}

// makeServer writes what the node's server of OpenSSH needs.
func (l *sshLab) makeServer(account string) {
	l.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	if l.host, err = ssh.NewPublicKey(public); err != nil {
		l.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("host", string(pem.EncodeToMemory(block)))
	l.write("sshd_config", fmt.Sprintf("HostKey %[1]s/host\nTrustedUserCAKeys %[1]s/ca.pub\nAuthorizedPrincipalsFile %[1]s/principals\n"+
		"AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"+
		"PermitRootLogin prohibit-password\nAllowUsers %[2]s\nSubsystem sftp internal-sftp\n", l.dir, account))
}

func (l *sshLab) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		l.t.Error(err)
	}
}

// look is a look of somebody at a session: the node comes up after enough of them.
func (l *sshLab) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looks == 0 {
		return
	}
	if l.looks--; l.looks > 0 {
		return
	}
	report := func(item protocol.ReportItem) {
		r := protocol.Report{V: protocol.Version, Pool: "lab", VMID: "lab-0", Items: []protocol.ReportItem{item}}
		if err := l.app.Nodes.Report(l.ctx, "lab", []service.Report{{Report: r, At: time.Now().UTC()}}); err != nil {
			l.t.Error(err)
		}
	}
	report(protocol.ReportItem{Ready: &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1",
		HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(l.host)))},
		Features: append(protocol.Features(), protocol.FeatureSession)}})
	for _, item := range l.app.Bus.TakeWork(protocol.SessionID("lab", "lab-0")) {
		if item.Assign == nil || item.Assign.Session == nil {
			continue
		}
		l.given = item.Assign.Session
		l.write("ca.pub", strings.Join(l.given.CAs, "\n")+"\n")
		l.write("principals", sshca.Principal(item.Assign.Job)+"\n")
		l.listen(l.given.Door)
		report(protocol.ReportItem{Started: &protocol.Started{N: item.N, At: time.Now().UTC()}})
	}
}

// serve leads a sender to a server of OpenSSH.
func (l *sshLab) serve(ctx context.Context, in *relay.Incoming) {
	if !strings.HasPrefix(in.Suffix, relay.SSH+"/") {
		_ = in.Reject(ctx, http.StatusForbidden, "")
		return
	}
	conn, err := in.AcceptStream(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	c := exec.CommandContext(ctx, "/usr/sbin/sshd", "-i", "-f", filepath.Join(l.dir, "sshd_config"))
	stdin, err1 := c.StdinPipe()
	stdout, err2 := c.StdoutPipe()
	if err1 != nil || err2 != nil || c.Start() != nil {
		return
	}
	go func() {
		_, _ = io.Copy(stdin, conn)
		stdin.Close()
	}()
	_, _ = io.Copy(conn, stdout)
	conn.Close()
	_ = c.Wait()
}

// run runs a program of this machine as the person, and returns what it writes.
func (l *sshLab) run(stdin, name string, args ...string) (string, error) {
	c := exec.CommandContext(l.ctx, name, args...)
	c.Env, c.Dir, c.Stdin = l.env, l.home, strings.NewReader(stdin)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// must is run of what has to work and to say something.
func (l *sshLab) must(want, stdin, name string, args ...string) {
	l.t.Helper()
	if out, err := l.run(stdin, name, args...); err != nil || !strings.Contains(out, want) {
		l.t.Errorf("%s %v: %v, and %q is not in:\n%s", name, args, err, want, out)
	}
}

// OpenSSH's own programs come into a session by its pool's name: while the node boots, for
// longer than their ConnectTimeout, and afterwards. A session that has ended they do not
// start again, however often they are called.
func TestOpenSSHComesIn(t *testing.T) {
	t.Parallel()
	l := newSSHLab(t)
	dsvm, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(l.home, ".dsvm", "ssh_config")
	l.must(config, "", dsvm, "ssh", "config")
	// Nobody has opened a session: ssh opens none.
	if out, err := l.run("", "ssh", "-F", config, "lab.dsvm", "true"); err == nil || !strings.Contains(out, "you have no session in pool") {
		t.Errorf("without a session: %v\n%s", err, out)
	}
	if all, err := l.app.Sessions.List(l.ctx, "lab", ""); err != nil || len(all) != 0 {
		t.Fatalf("there are %+v, %v", all, err)
	}
	ann := caller.With(l.ctx, caller.Caller{ID: "a-1", Name: l.account(), UID: 200101, Teams: map[string]caller.Role{"vision": caller.User}})
	session, _, err := l.app.Sessions.Open(ann, "lab", "")
	if err != nil {
		t.Fatal(err)
	}
	// Three looks take three and a half seconds, and ssh has one to connect. This is the form
	// in which VS Code calls it.
	l.mu.Lock()
	l.looks = 3
	l.mu.Unlock()
	l.must("in-side", "echo in-''side\n", "ssh", "-F", config, "-T", "-D", freePort(t), "-o", "ConnectTimeout=1", "lab.dsvm", "bash")

	l.must("one", "", "ssh", "-F", config, "lab.dsvm", "echo", "one")
	if _, err := l.run("", "ssh", "-F", config, "lab.dsvm", "exit 7"); exitCode(err) != 7 {
		t.Errorf("the exit code is lost: %v", err)
	}
	l.must("terminal", "", "ssh", "-F", config, "-tt", "lab.dsvm", "tty >/dev/null && echo terminal")
	l.must("piped", "piped", dsvm, "ssh", "lab", "--", "cat")
	file := filepath.Join(l.home, "data")
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(l.dir, "data")
	l.must("", "", "scp", "-F", config, file, "lab.dsvm:"+there)
	if got, err := os.ReadFile(there); err != nil || string(got) != big {
		t.Errorf("scp: %d bytes have arrived, %v", len(got), err)
	}
	l.must("data", "ls "+l.dir+"\n", "sftp", "-F", config, "-b", "-", "lab.dsvm")
	if _, err := exec.LookPath("rsync"); err == nil {
		l.must("", "", "rsync", "-e", "ssh -F "+config, file, "lab.dsvm:"+there+"2")
		if got, err := os.ReadFile(there + "2"); err != nil || string(got) != big {
			t.Errorf("rsync: %d bytes have arrived, %v", len(got), err)
		}
	}
	master := []string{"-F", config, "-o", "ControlMaster=auto", "-o", "ControlPath=" + filepath.Join(l.home, "m"), "-o", "ControlPersist=10", "lab.dsvm"}
	l.must("first", "", "ssh", append(slices.Clone(master), "echo", "first")...)
	l.must("second", "", "ssh", append(slices.Clone(master), "echo", "second")...)
	l.must("", "", "ssh", append([]string{"-O", "exit"}, master...)...)

	if _, err := l.app.Sessions.Stop(ann, session.ID); err != nil {
		t.Fatal(err)
	}
	l.staysEnded(config)
}

// staysEnded is an editor that was left open: it comes again and again, and finds nothing.
func (l *sshLab) staysEnded(config string) {
	l.t.Helper()
	l.mu.Lock()
	node := protocol.ReportItem{Finished: &protocol.Finished{N: l.number(), State: "cancelled", StartedAt: time.Now(), EndedAt: time.Now()}}
	l.mu.Unlock()
	if err := l.app.Report(l.ctx, "lab", "lab-0", node); err != nil {
		l.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(l.home, ".dsvm", "lab.dsvm.door"), old, old); err != nil {
		l.t.Fatal(err)
	}
	before := l.wanted()
	for range 5 {
		out, err := l.run("", "ssh", "-F", config, "-o", "ConnectTimeout=1", "lab.dsvm", "true")
		if err == nil || !strings.Contains(out, "your session in pool \"lab\" ended at") || !strings.Contains(out, "dsvm connect lab") {
			l.t.Fatalf("after the end: %v\n%s", err, out)
		}
	}
	if all, err := l.app.Sessions.List(l.ctx, "lab", ""); err != nil || len(all) != 0 || l.wanted() > before {
		l.t.Errorf("there are %+v, %v, and the pool wants %d nodes, before %d", all, err, l.wanted(), before)
	}
}

func (l *sshLab) wanted() int {
	pools, err := l.app.Pools.Pools(l.ctx, "lab")
	if err != nil {
		l.t.Fatal(err)
	}
	return pools[0].Wanted
}

// number is that of the session's assignment.
func (l *sshLab) number() int64 {
	all, err := l.app.Sessions.List(l.ctx, "lab", "")
	if err != nil || len(all) != 1 || all[0].State != wire.SessionEnding {
		l.t.Fatalf("there are %+v, %v", all, err)
	}
	j, err := l.app.Jobs.Job(l.ctx, all[0].ID)
	if err != nil {
		l.t.Fatal(err)
	}
	return j.N
}

func (l *sshLab) account() string {
	me, err := user.Current()
	if err != nil {
		l.t.Fatal(err)
	}
	return me.Username
}

// exitCode is that of a program; -1 = it has none.
func exitCode(err error) int {
	if ended, ok := err.(*exec.ExitError); ok {
		return ended.ExitCode()
	}
	return -1
}

// freePort is one that nobody listened at a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
