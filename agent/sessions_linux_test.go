package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/agent/door"
	"dsvmpools/agent/person"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	p := beginPeople(t, sessionConfig(t))
	p.work(atRelay(p.session(1, "ann", 200101)), p.session(2, "bob", 200102))
	p.started(1)
	p.started(2)
	ann, bob := p.good(1), p.good(2)
	for _, test := range []struct{ name, command, want string }{
		{"account", "id -un; id -u; id -g", "ann\n200101\n200101"},
		{"home", "pwd; stat -c '%a %u' .", "/home/ann\n700 200101"},
		{"share", "echo mine > notebooks/remote/x && cat share/notebooks/ann/x", "mine"},
		{"environment", "echo $DSVM_POOL $DSVM_SESSION", "lab S1"},
		{"no descriptor of the keeper's", "ls /proc/self/fd | sort -n | tail -1", "3"},
		{"not the agent's environment", "env | grep -c Connection || true", "0"},
	} {
		if got, err := p.ssh(1, "ann", ann, test.command); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(p.cfg.Share, "notebooks/ann/x")); err != nil || string(got) != "mine\n" {
		t.Errorf("on the share: got %q, %v", got, err)
	}
	// What ann must not see.
	begin := "echo secret > private; chmod 644 private; SECRET=1 nohup sleep 100 >/dev/null 2>&1 & echo"
	if _, err := p.ssh(2, "bob", bob, begin); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{
		"home of another":           "cat ~bob/private /home/bob/private",
		"notebooks of another":      "ls share/notebooks/bob/",
		"processes of another":      "pgrep -u 200102",
		"environment of the keeper": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep DSVM_VMID",
		"host key":                  "cat /run/dsvm/host/*",
		"plan":                      "cat /run/dsvm/state/session.json",
		"settings of sshd":          "cat " + p.run(1) + "/sshd_config",
		"socket of another":         "ls " + p.run(2) + "/",
		"root":                      "su -c id root </dev/null",
	} {
		if got, err := p.ssh(1, "ann", ann, command); err == nil {
			t.Errorf("%s: got %q, want it refused", name, got)
		}
	}
	for name, of := range map[string]pass{
		"another's session":  {p.ca, "session:S2", time.Hour},
		"another authority":  {newSigner(t), "session:S1", time.Hour},
		"expired":            {p.ca, "session:S1", -time.Minute},
		"no session":         {p.ca, "ann", time.Hour},
		"another's as a set": {p.ca, "session:*", time.Hour},
	} {
		if got, err := p.ssh(1, "ann", p.makePass("bad", of), "echo in"); err == nil || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("%s: got %q, %v, want it refused", name, got, err)
		}
	}
	for _, user := range []string{"root", "bob"} {
		if got, err := p.ssh(1, user, ann, "echo in"); err == nil {
			t.Errorf("as %s: got %q, want it refused", user, got)
		}
	}
	if text, _ := exec.Command("getent", "passwd", "ann", "bob").Output(); len(text) > 0 {
		t.Errorf("the machine's own accounts: got %s", text)
	}
	var entry door.File
	text, err := os.ReadFile(filepath.Join(p.cfg.InstanceDir, "doors/1.json"))
	if err != nil || json.Unmarshal(text, &entry) != nil || entry.User != "ann" || entry.SSH != "unix:"+p.run(1)+"/ssh.sock" {
		t.Errorf("for the door: got %s, %v", text, err)
	}

	// The end: nobody comes in any more, and nothing runs.
	long := p.sshCommand(1, "ann", ann, "nohup sleep 1000 >/dev/null 2>&1 & echo on; sleep 1000")
	long.Stdout = &signalOnWrite{written: make(chan struct{})}
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	<-long.Stdout.(*signalOnWrite).written
	p.work(cancel(3, 1))
	if f := p.finished(1); f.State != string(job.AttemptCancelled) || f.Reason != "asked to" || f.StartedAt.IsZero() {
		t.Errorf("the end: got %+v", f)
	}
	if err := long.Wait(); err == nil {
		t.Error("a login that was open when its session ended has ended well")
	}
	if got, err := p.ssh(1, "ann", ann, "echo in"); err == nil {
		t.Errorf("after the end: got %q", got)
	}
	if got, err := p.ssh(2, "bob", bob, "cat private"); err != nil || got != "secret" {
		t.Errorf("another's session: got %q, %v", got, err)
	}
	// The home is still there for the next session of its person.
	p.work(protocol.WorkItem{Ack: []int64{1}}, p.session(4, "ann", 200101))
	p.started(4)
	if got, err := p.ssh(4, "ann", p.good(4), "cat .dsvm-greeting | tail -1"); err != nil || !strings.HasSuffix(got, "asked to") {
		t.Errorf("the greeting: got %q, %v", got, err)
	}
}

func TestSessionOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	p := beginPeople(t, sessionConfig(t))
	tokens := func(token string) *protocol.Door {
		return &protocol.Door{URL: "ws://127.0.0.1:1/$hc/lab-1", Token: token, WebURL: "ws://127.0.0.1:1/$hc/lab-1-web", WebToken: "web " + token}
	}
	with := p.session(1, "ann", 200101)
	with.Assign.Session.Door = tokens("first")
	p.work(with)
	p.started(1)
	p.doorToken(1, "first")
	// Tokens that come with another session are for all of the node.
	other := p.session(3, "bob", 200102)
	other.Assign.Session.Door = tokens("second")
	p.work(other)
	p.doorToken(1, "second")
	p.started(3)
	p.work(protocol.WorkItem{Door: tokens("third")})
	p.doorToken(1, "third")
	p.doorToken(3, "third")
	key := p.good(1)
	pid, err := p.ssh(1, "ann", key, "nohup sleep 1000 >/dev/null 2>&1 & echo $!")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if got, err := p.ssh(1, "ann", key, "echo in"); err != nil || got != "in" {
		t.Errorf("without an agent: got %q, %v", got, err)
	}
	p.change(func() { p.reports = nil })
	for _, n := range []string{"1", "3"} {
		if err := os.Remove(filepath.Join(p.cfg.InstanceDir, "doors", n+".json")); err != nil {
			t.Fatal(err)
		}
	}
	p.node = launched(t, p.cfg, p.memBus)
	p.doorToken(1, "third")
	p.doorToken(3, "third")
	p.until("the session is held", func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Holds != nil && len(i.Holds.N) == 2 {
					return true
				}
			}
		}
		return false
	})
	if _, err := p.ssh(1, "ann", key, "kill -0 "+pid); err != nil {
		t.Errorf("what ran in the session: %v", err)
	}
	p.work(cancel(4, 1))
	if f := p.finished(1); f.State != string(job.AttemptCancelled) {
		t.Errorf("got %+v", f)
	}
}

// TestKilledAgentsOfSessions kills the agent while a session is made, at a moment that moves
// through all steps, and starts another: the session's start goes on, or it is taken over.
func TestKilledAgentsOfSessions(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	s := onServiceBus(t, time.Minute)
	p := &people{node: &node{memBus: s.memBus}, ca: newSigner(t), dir: t.TempDir()}
	cfg.ServiceBus = s.cfg.ServiceBus
	s.cfg, p.cfg = cfg, cfg
	env := []string{"DSVM_OWN_USERS=true", "DSVM_SESSION_GRACE=100ms", "DSVM_SESSION_VOTES=200ms"}
	run := p.run(1)
	// What is there when the agent is killed: nothing, the plan, the keeper's lock, its socket,
	// what sshd reads, the principal, the door's entry.
	moments := []string{
		"",
		filepath.Join(cfg.InstanceDir, "sessions/1/session.json"),
		filepath.Join(run, "lock"),
		filepath.Join(run, "control.sock"),
		filepath.Join(cfg.InstanceDir, "home/ann"),
		filepath.Join(run, "sshd_config"),
		filepath.Join(run, "principals/ann"),
		filepath.Join(cfg.InstanceDir, "doors/1.json"),
	}
	s.give(atRelay(p.session(1, "ann", 200101)))
	for _, file := range moments {
		var log bytes.Buffer
		agent := s.child(&log, env...)
		if file == "" {
			eventually(t, "the session to be in the journal", func() bool {
				text, _ := os.ReadFile(filepath.Join(cfg.InstanceDir, "journal"))
				return bytes.Contains(text, []byte(`"starting":true`))
			})
		} else {
			eventually(t, file, func() bool {
				_, err := os.Stat(file)
				return err == nil
			})
		}
		agent.Process.Kill()
		agent.Wait()
	}
	var log bytes.Buffer
	last := s.child(&log, env...)
	p.started(1)
	if got, err := p.ssh(1, "ann", p.good(1), "cat share/notebooks/ann/../../nothing; id -un"); err != nil || got != "ann" {
		t.Errorf("got %q, %v; log:\n%s", got, err, log.String())
	}
	// An end that is asked for and not done when the agent dies is done by the next one.
	s.give(cancel(2, 1))
	eventually(t, "the end to be in the journal", func() bool {
		text, _ := os.ReadFile(filepath.Join(cfg.InstanceDir, "journal"))
		return bytes.Contains(text, []byte(`"ending":"asked to"`))
	})
	last.Process.Kill()
	last.Wait()
	s.child(&log, env...)
	if f := s.finished(1); f.State != string(job.AttemptCancelled) && f.State != string(job.AttemptFailed) {
		t.Errorf("got %+v", f)
	}
}

func TestSessionEndsWithItsNode(t *testing.T) {
	t.Parallel()
	p := beginPeople(t, sessionConfig(t))
	p.work(p.session(1, "ann", 200101))
	p.started(1)
	key := p.good(1)
	if _, err := p.ssh(1, "ann", key, "setsid nohup sleep 1000 >/dev/null 2>&1 & echo"); err != nil {
		t.Fatal(err)
	}
	p.work(protocol.WorkItem{Stop: "the pool has given this node up"})
	eventually(t, "the session to be gone", func() bool { return len(person.RunFolders("lab."+p.cfg.VMID)) == 0 })
	if got, err := p.ssh(1, "ann", key, "echo in"); err == nil {
		t.Errorf("got %q, want it refused", got)
	}
}

func TestSessionsThatCannotStart(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	cfg.Jupyter = "/bin/true" // a folder without JupyterHub
	p := beginPeople(t, cfg)
	if err := os.MkdirAll(filepath.Join(p.cfg.Share, "notebooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.cfg.Share, "notebooks/bob"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	change := func(n int64, user string, uid int, how func(*protocol.Assignment)) protocol.WorkItem {
		item := p.session(n, user, uid)
		how(item.Assign)
		return item
	}
	none := func(*protocol.Assignment) {}
	for _, test := range []struct {
		item protocol.WorkItem
		says string
	}{
		{change(1, "ann/..", 200101, none), "name is not safe"},
		{change(2, "ann", 0, none), "number is 0"},
		{change(4, "ann", 200101, func(w *protocol.Assignment) { w.Session.Jupyter = protocol.JupyterHub }), "JupyterHub is not there beside /bin/true"},
		{change(5, "ann", 200101, func(w *protocol.Assignment) { w.Session.CAs = nil }), "names no key"},
		{change(6, "ann", 200101, func(w *protocol.Assignment) { w.Session.CAs = []string{"x\nAllowUsers root"} }), "is no public key"},
		{change(7, "bob", 200102, none), "share: notebooks/bob on the share is no folder"},
		{change(8, "root", 200103, none), "account:"},
		{change(9, "ann", 200101, func(w *protocol.Assignment) { w.Session.Sudo = true }), "sudo:"},
	} {
		p.work(test.item)
		f := p.finished(test.item.N)
		if f.State != string(job.AttemptStartFailed) || !strings.Contains(f.Reason, test.says) {
			t.Errorf("session %d: got %+v, want %q", test.item.N, f, test.says)
		}
	}
}
