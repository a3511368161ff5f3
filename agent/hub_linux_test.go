package agent

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/shared/chromiumtest"
	"dsvmpools/shared/protocol"
)

// A person opens JupyterHub by a ticket in a real browser: it starts their JupyterLab, where they
// work. They stop and start it on the hub's page. A hub that is killed takes nothing with it.
func TestHub(t *testing.T) {
	t.Parallel()
	const uid = 200151 // of no other test
	l := beginLabs(t, 200*time.Millisecond)
	if _, hub := (&sessions{cfg: l.cfg}).findHub(); hub == "" {
		t.Skip("JupyterHub is not installed beside " + l.cfg.Jupyter)
	}
	browser := chromiumtest.Start(t)
	l.jupyter = protocol.JupyterHub
	t.Cleanup(func() { l.logLab(1) })
	l.begin(1, "ann", uid)
	chromiumtest.Patiently(t, "a door that is open", func() bool { return l.state(1).Closed == "" })
	l.votes(1, "a hub without a JupyterLab", says("kernels", "idle: JupyterLab is not started"))

	run := person.RunFolder(l.cfg.Pool+"."+l.cfg.VMID, 1)
	login := l.login(1, "ann")
	ann := browser.Open(login)
	ann.Awaits("This opens the session of ann.")
	ann.Click("#go")
	ann.Click(`.jp-LauncherCard[data-category="Notebook"]`)
	runs(t, ann, "kept = 6 * 7; print('it', 'is', kept)", "it is 42")
	at := labAt(login)
	path := func() string { return ann.Eval("location.pathname") }
	if got := path(); !strings.Contains(got, "/user/ann/lab") {
		t.Errorf("JupyterLab is at %s", got)
	}
	l.votes(1, "its kernel", says("kernels", "idle: 0 of 1 compute"))
	if got := ann.Eval(`String(!!document.querySelector('script[src$="dsvm/notice.js"]'))`); got != "true" {
		t.Errorf("the door's script is in the page: %s", got)
	}
	chromiumtest.Patiently(t, "a WebSocket and input", func() bool { return l.state(1).Jupyter > 0 && !l.state(1).LastInput.IsZero() })

	if here, err := os.Stat(filepath.Join(run, "lab")); err != nil || here.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the hub's sockets: %v, %v", here, err)
	}
	for _, socket := range []string{"hub.sock", "lab.sock"} {
		s, err := os.Stat(filepath.Join(run, "lab", socket))
		if err != nil || s.Mode().Perm() != 0o600 || s.Sys().(*syscall.Stat_t).Uid != uid {
			t.Errorf("the socket %s: %v, %v", socket, s, err)
		}
	}

	running := processesOf(t, uid)
	if len(running) < 3 { // the hub, JupyterLab and the kernel
		t.Errorf("ann's processes are %q", running)
	}
	for _, text := range running {
		if strings.Contains(text, "API_TOKEN") {
			t.Errorf("a token of the hub is shown by a process: %q", text)
		}
	}

	// The hub is killed; the kernel lives on, and another hub knows its server.
	killHub := func() {
		before := hubProcess(t, run)
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		chromiumtest.Patiently(t, "another hub", func() bool { now := hubProcess(t, run); return now != 0 && now != before })
		awaitHub(t, run)
	}
	killHub()
	ann.Visit(at + "user/ann/lab/tree/Untitled.ipynb")
	ann.Click(`.jp-Notebook .cm-content`)
	runs(t, ann, "print('still', kept)", "still 42")

	// Its server is stopped and started on the hub's page.
	ann.Visit(at + "hub/home")
	chromiumtest.Patiently(t, "the hub's script", func() bool {
		return ann.Eval(`String(!!(window.jQuery && jQuery._data(document.querySelector('#stop'), 'events')))`) == "true"
	})
	ann.Click("#stop")
	l.votes(1, "a JupyterLab that is stopped", says("kernels", "idle: JupyterLab is not started"))
	ann.Awaits("Start My Server")
	ann.Visit(at + "lab/workspaces/second")
	ann.Click(`.jp-LauncherCard[data-category="Notebook"]`)
	runs(t, ann, "print('once', 'more')", "once more")

	// A hub that is killed before it has written down what it starts leaves a JupyterLab, which the next one takes over.
	runs(t, ann, "kept = 'as it was'; print('it', 'was', 'set')", "it was set")
	if err := os.Remove(filepath.Join(run, "lab/jupyterhub.sqlite")); err != nil {
		t.Fatal(err)
	}
	killHub()
	ann.Visit(at + "lab/workspaces/second/tree/Untitled1.ipynb")
	ann.Click(`.jp-Notebook .cm-content`)
	runs(t, ann, "print('it is', kept)", "it is as it was")

	// Who has no cookie comes to neither.
	eve := browser.Open(at + "hub/home")
	eve.Awaits("open this session with `dsvm jupyter`")
	eve.Visit(at + "user/ann/lab")
	eve.Awaits("open this session with `dsvm jupyter`")

	// At the end nothing of it is left.
	l.work(cancel(2, 1))
	l.finished(1)
	if left, err := os.Stat(run); !os.IsNotExist(err) {
		t.Errorf("the folder of the hub is still there: %v, %v", left, err)
	}
	if left := processesOf(t, uid); len(left) > 0 {
		t.Errorf("after the end there are the processes %q", left)
	}
}

// processesOf are the command lines, and the environments, of the processes of a user.
func processesOf(t *testing.T, uid uint32) (all []string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		environment, wrong := os.ReadFile(filepath.Join(dir, "environ"))
		at, gone := os.Stat(dir)
		if errors.Join(err, wrong, gone) == nil && at.Sys().(*syscall.Stat_t).Uid == uid {
			all = append(all, string(text)+string(environment))
		}
	}
	return all
}

// awaitHub waits until the hub of a session listens.
func awaitHub(t *testing.T, run string) {
	t.Helper()
	chromiumtest.Patiently(t, "the hub", func() bool {
		c, err := net.Dial("unix", filepath.Join(run, "lab/hub.sock"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// hubProcess is the process of the hub of a session, by its configuration; 0 = there is none.
func hubProcess(t *testing.T, run string) (pid int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), "\x00-f\x00"+filepath.Join(run, "hub.py")) {
			if pid, err = strconv.Atoi(filepath.Base(filepath.Dir(file))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return pid
}

// logLab shows the end of what a session's JupyterLab, and its hub, have said, if the test has failed.
func (l *labs) logLab(n int64) {
	if !l.tb.Failed() {
		return
	}
	text, err := os.ReadFile(filepath.Join(l.cfg.InstanceDir, "sessions", strconv.FormatInt(n, 10), "lab.log"))
	l.tb.Logf("the log of JupyterLab ends with\n%s\n%v", text[max(len(text)-8000, 0):], err)
}
