package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/protocol"
)

// jupyter is the program of the tests: that of .ci/run, or one in the PATH.
func jupyter(tb testing.TB) string {
	tb.Helper()
	path := os.Getenv("JUPYTER_UNDER_TEST")
	if path == "" {
		path, _ = exec.LookPath("jupyter")
	}
	if path == "" {
		tb.Skip("JupyterLab is not installed; JUPYTER_UNDER_TEST names the program jupyter of a venv")
	}
	return path
}

// lastState is what was reported last of a session; nil = nothing was.
func lastState(all []protocol.Report, n int64) (last *protocol.SessionState) {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Session != nil && i.Session.N == n {
				last = i.Session
			}
		}
	}
	return last
}

// votes waits until a session's last report is as wanted.
func (p *people) votes(n int64, what string, ok func(protocol.SessionState) bool) {
	p.tb.Helper()
	p.until(what, func(all []protocol.Report) bool {
		last := lastState(all, n)
		return last != nil && ok(*last)
	})
}

// lockedBuffer is what a command has written so far.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(piece []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(piece)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func says(vote, start string) func(protocol.SessionState) bool {
	return func(s protocol.SessionState) bool { return strings.HasPrefix(s.Votes[vote], start) }
}

func TestVotesOfSessions(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	cfg.ReportEvery = 50 * time.Millisecond // so that each count is reported
	cfg.SessionVotes = 2 * time.Second      // a count takes some 30 ms of a processor, which is the session's own
	p := beginPeople(t, cfg)
	item := p.session(1, "ann", 200101)
	item.Assign.Session.Probe = `[ -f "$HOME/probe" ]`
	p.work(item)
	p.started(1)
	key := p.good(1)
	p.votes(1, "an idle session", func(s protocol.SessionState) bool { return s.Idle > 0 && !s.Unknown })

	// A connection alone is no vote: it is shown.
	open := p.sshCommand(1, "ann", key, "sleep 1000")
	if err := open.Start(); err != nil {
		t.Fatal(err)
	}
	p.votes(1, "an idle session with a connection", func(s protocol.SessionState) bool { return s.Idle > 0 && s.Connections["ssh"] == 1 })

	do := func(command string) {
		t.Helper()
		if _, err := p.ssh(1, "ann", key, command); err != nil {
			t.Fatal(err)
		}
	}
	busy := func(vote string) {
		t.Helper()
		p.votes(1, vote+" is busy", func(s protocol.SessionState) bool { return strings.HasPrefix(s.Votes[vote], "busy") && s.Idle == 0 })
	}
	do("nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $! >loop")
	busy("cpu")
	do("kill $(cat loop)")
	p.votes(1, "cpu is idle", says("cpu", "idle"))
	do("touch probe")
	busy("probe")
	do("rm probe")
	do("date -u -d '+1 hour' +%Y-%m-%dT%H:%M:%SZ >.dsvm-keep-until")
	busy("held")
	do("ln -sf /etc/shadow .dsvm-keep-until")
	p.votes(1, "a link to what the person may not read holds nothing", says("held", "idle"))
	if err := os.WriteFile(filepath.Join(p.cfg.InstanceDir, "doors/1.state.json"), []byte(`{"closed":"no token"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.votes(1, "a closed door", func(s protocol.SessionState) bool { return s.Unknown && s.DoorClosed == "no token" })
	open.Process.Kill()
	open.Wait()
}

// TestInputAndWarnings types on a terminal of a session, and reads there what the person is
// told.
func TestInputAndWarnings(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	cfg.ReportEvery = 50 * time.Millisecond
	p := beginPeople(t, cfg)
	p.work(p.session(1, "ann", 200101))
	p.started(1)
	shell := p.sshCommand(1, "ann", p.good(1))
	shell.Args = append(shell.Args[:len(shell.Args)-1], "-tt", shell.Args[len(shell.Args)-1])
	keys, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var screen lockedBuffer
	shell.Stdout = &screen
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the greeting", func() bool { return strings.Contains(screen.String(), "Session S1 on node") })
	if _, err := keys.Write([]byte("echo typed-$((1+1))\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the answer", func() bool { return strings.Contains(screen.String(), "typed-2") })
	warn := protocol.WorkItem{N: 2, Warn: &protocol.Warn{Target: 1, EndsIn: 900, Text: "the session ends in 15 min\x1b[2J; type a key to keep it"}}
	p.work(warn, warn)
	eventually(t, "the warning", func() bool { return strings.Contains(screen.String(), "*** the session ends in 15 min [2J;") })
	p.votes(1, "that the warning has come, at once", func(s protocol.SessionState) bool { return s.Warned == 2 })
	notice, err := os.ReadFile(filepath.Join(p.run(1), "notice.json"))
	if err != nil || !strings.Contains(string(notice), `"text":"the session ends in 15 min [2J; type`) {
		t.Errorf("for JupyterLab: got %s, %v", notice, err)
	}
	p.work(protocol.WorkItem{N: 3, Warn: &protocol.Warn{Target: 1}})
	eventually(t, "the withdrawal", func() bool { return strings.Contains(screen.String(), "the session goes on") })
	if got := strings.Count(screen.String(), "ends in 15 min"); got != 1 {
		t.Errorf("the warning came %d times, want 1", got)
	}
	p.work(cancel(4, 1))
	p.finished(1)
	shell.Wait()
}

// Pipes and links in a home hold nobody up: nobody is at their other end.
func TestPipesInTheHome(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	cfg.ReportEvery = 50 * time.Millisecond
	p := beginPeople(t, cfg)
	p.work(p.session(1, "ann", 200101))
	p.started(1)
	const all = ".dsvm-last-end .dsvm-keep-until .dsvm-greeting .bash_profile"
	if _, err := p.ssh(1, "ann", p.good(1), "rm -f "+all+"; mkfifo "+all); err != nil {
		t.Fatal(err)
	}
	p.votes(1, "a pipe holds nothing", says("held", "idle: not held"))
	p.work(cancel(2, 1))
	p.finished(1)
	p.work(protocol.WorkItem{Ack: []int64{1}}, p.session(3, "ann", 200101))
	p.started(3)
	want := "Your last session here ended at"
	if got, err := p.ssh(3, "ann", p.good(3), "tail -1 .dsvm-greeting; stat -c %F .dsvm-last-end"); err != nil ||
		!strings.HasPrefix(got, want) || !strings.HasSuffix(got, "asked to\nregular file") {
		t.Errorf("the greeting: got %q, %v", got, err)
	}
}

func TestJupyterLab(t *testing.T) {
	t.Parallel()
	cfg := sessionConfig(t)
	cfg.Jupyter, cfg.ReportEvery = jupyter(t), 50*time.Millisecond
	p := beginPeople(t, cfg)
	item := p.session(1, "ann", 200101)
	item.Assign.Memory = 0
	item.Assign.Session.Jupyter = protocol.JupyterLab
	item.Assign.Session.Door = &protocol.Door{WebURL: "wss://ns.servicebus.windows.net/$hc/lab-1-web"}
	p.work(item)
	p.started(1)
	p.votes(1, "JupyterLab answers", says("kernels", "idle: 0 of 0"))
	key := p.good(1)
	// As a browser does: the page's cookie goes along.
	start := `curl="curl -sf --unix-socket $SOCKET -b jar -c jar"
$curl -o page http://localhost/lab-1-web/lab && xsrf=$(awk '/_xsrf/ { print $7 }' jar) &&
$curl -H "X-XSRFToken: $xsrf" -d '{"name":"python3"}' http://localhost/lab-1-web/api/kernels`
	start = "SOCKET=" + p.run(1) + "/lab/lab.sock; " + start
	if got, err := p.ssh(1, "ann", key, start); err != nil || !strings.Contains(got, "execution_state") {
		t.Fatalf("a kernel: got %q, %v", got, err)
	}
	p.votes(1, "a kernel is there", func(s protocol.SessionState) bool { return strings.Contains(s.Votes["kernels"], "of 1") })
	// One that ends is started again.
	if _, err := p.ssh(1, "ann", key, "pkill -f jupyter-lab"); err != nil {
		t.Fatal(err)
	}
	p.votes(1, "it is away", says("kernels", "unknown"))
	p.votes(1, "it is back", says("kernels", "idle: 0 of 0"))
	look := "ls -ld " + p.run(1) + "/lab | cut -c 1-10; tr '\\0' ' ' </proc/$(pgrep -f '[j]upyter-lab' | head -1)/cmdline"
	if got, err := p.ssh(1, "ann", key, look); err != nil ||
		!strings.HasPrefix(got, "drwx------") || !strings.Contains(got, "--LabApp.news_url=None") {
		t.Errorf("got %q, %v", got, err)
	}
}
