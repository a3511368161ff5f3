//go:build unix

package agent

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/boot"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// stages lists what was reported of the boot.
func stages(all []protocol.Report) (found []protocol.Booting) {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Booting != nil {
				found = append(found, *i.Booting)
			}
		}
	}
	return found
}

func isReady(all []protocol.Report) bool {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Ready != nil {
				return true
			}
		}
	}
	return false
}

// booting waits for the report of a stage whose reason has a text.
func (n *node) booting(stage, reason string) protocol.Booting {
	n.tb.Helper()
	var got protocol.Booting
	n.until("a report of the stage "+stage, func(all []protocol.Report) bool {
		for _, b := range stages(all) {
			if b.Stage == stage && strings.Contains(b.Reason, reason) {
				got = b
				return true
			}
		}
		return false
	})
	return got
}

// untaken fails when the node has taken its session.
func (n *node) untaken() {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.accepts > 0 || isReady(n.reports) {
		n.tb.Errorf("the node takes work while it boots")
	}
}

func (n *node) comesUp() {
	n.tb.Helper()
	n.until("the node to be ready", isReady)
}

// TestWaitsForShare: a node without its share takes no work, and says so again and again;
// how attempts of an earlier life ended is reported all the same.
func TestWaitsForShare(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.ReportEvery, cfg.stageAfter = 10*time.Millisecond, time.Millisecond
	if err := os.Remove(cfg.Share); err != nil {
		t.Fatal(err)
	}
	life := lines(mine(cfg), record{Seen: 3, N: 3, Assign: assign(3, "true").Assign}, record{N: 3, Started: &process.Process{At: time.Now()}})
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), life, 0o600); err != nil {
		t.Fatal(err)
	}
	n := launched(t, cfg, newBus(t))
	b := n.booting(protocol.StageShare, "no such file or directory")
	if b.Failed || b.Name != cfg.Node || b.Size != cfg.Size || b.Boot == "" {
		t.Errorf("got %+v", b)
	}
	if f := n.finished(3); f.State != string(job.AttemptAgentRestarted) {
		t.Errorf("got %+v", f)
	}
	n.until("the stage to be reported again", func(all []protocol.Report) bool { return len(stages(all)) > 3 })
	n.untaken()
	if err := os.Mkdir(cfg.Share, 0o755); err != nil {
		t.Fatal(err)
	}
	n.comesUp()
	n.work(assign(4, "true"))
	if f := n.finished(4); f.State != string(job.AttemptSucceeded) {
		t.Errorf("got %+v", f)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	late := false
	for _, r := range n.reports {
		if isReady([]protocol.Report{r}) {
			late = true
		} else if late && len(stages([]protocol.Report{r})) > 0 {
			t.Error("a stage is reported after the node was ready")
		}
	}
}

// TestQuickBootIsQuiet: a node that has all it needs costs no report of a stage.
func TestQuickBootIsQuiet(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.comesUp()
	n.mu.Lock()
	defer n.mu.Unlock()
	if found := stages(n.reports); len(found) > 0 {
		t.Errorf("got %+v", found)
	}
}

// TestWaitsForGPUs: a node without all GPUs of its size takes no work and says what its
// driver shows; after some time it is given up.
func TestWaitsForGPUs(t *testing.T) {
	t.Parallel()
	const list = "#!/bin/sh\ncat <<E\nGPU 0: Tesla T4 (UUID: a)\n  MIG 1g.5gb Device 0: (UUID: b)\n%sE\n"
	more := "GPU 1: Tesla T4 (UUID: c)\nGPU 2: Tesla T4 (UUID: d)\nGPU 3: Tesla T4 (UUID: e)\n"
	for _, c := range []struct {
		name, smi, devices, reason string
	}{
		{"one of four", fmt.Sprintf(list, ""), "0123", "`nvidia-smi -L` lists 1"},
		{"the driver does not work", "#!/bin/sh\necho NVIDIA-SMI has failed >&2\nexit 9\n", "0123", "NVIDIA-SMI has failed"},
		{"a device is missing", fmt.Sprintf(list, more), "012", "the node shows 3 of the files"},
		{"no driver", "", "", "install it in the pool's `setup`"},
		{"all", fmt.Sprintf(list, more), "0123", ""},
		{"all, and no nvidia-smi", "", "0123", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			dir := t.TempDir()
			cfg.Size, cfg.GPUDevices, cfg.nvidiaSMI = "Standard_NC64as_T4_v3", filepath.Join(dir, "nvidia[0-9]*"), filepath.Join(dir, "smi")
			for _, d := range c.devices {
				if err := os.WriteFile(filepath.Join(dir, "nvidia"+string(d)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.smi != "" {
				if err := os.WriteFile(cfg.nvidiaSMI, []byte(c.smi), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.reason == "" {
				launched(t, cfg, newBus(t)).comesUp()
				return
			}
			cfg.gpusWithin, cfg.stageAfter = time.Nanosecond, time.Millisecond
			n := launched(t, cfg, newBus(t))
			n.booting(protocol.StageGPUs, c.reason)
			n.until("the node to be given up", func(all []protocol.Report) bool {
				found := stages(all)
				return len(found) > 0 && found[len(found)-1].Failed
			})
			n.untaken()
		})
	}
}

// models is a metadata endpoint with user data.
type models struct {
	*httptest.Server
	mu   sync.Mutex
	data string
}

func newModels(t *testing.T, document any) *models {
	t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	m := &models{data: base64.StdEncoding.EncodeToString(text)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case r.Header.Get("Metadata") != "true":
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/metadata/instance/compute/userData" && r.URL.Query().Get("format") == "text" &&
			r.URL.Query().Get("api-version") == userDataVersion:
			fmt.Fprint(w, m.data)
		case r.URL.Path == "/metadata/scheduledevents":
			fmt.Fprint(w, `{"Events":[]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// setUp is a node with a setup script.
func setUp(t *testing.T, script string, change func(*Config)) *node {
	t.Helper()
	cfg := config(t)
	cfg.Metadata = newModels(t, map[string]any{"v": 1, "setup": script}).URL
	cfg.BootID, cfg.setupPause, cfg.stageAfter = "boot-1", time.Millisecond, time.Millisecond
	if change != nil {
		change(&cfg)
	}
	return launched(t, cfg, newBus(t))
}

// TestSetupRunsOnceInEachBoot: before the node is ready, with its log on the share, and
// without what the agent knows.
func TestSetupRunsOnceInEachBoot(t *testing.T) {
	t.Parallel()
	count := filepath.Join(t.TempDir(), "count")
	const others = `env | grep -vc '^\(DSVM_[A-Z_]*\|PATH\|HOME\|LANG\|USER\|LOGNAME\|DEBIAN_FRONTEND\|PWD\|OLDPWD\|SHLVL\|_\)='`
	n := setUp(t, "echo run >> "+count+"; echo \"$DSVM_POOL $DSVM_NODE $DSVM_SHARE\"; "+others+"; (sleep 1000 &) ; exit 0", nil)
	n.comesUp()
	log := filepath.Join(n.cfg.Share, "nodes", "cpu", n.cfg.Node, "setup.log")
	if text, err := os.ReadFile(log); err != nil || string(text) != "cpu cpu_0 "+n.cfg.Share+"\n0\n" {
		t.Errorf("the log on the share has %q (%v)", text, err)
	}
	if left := process.Find(map[string]process.Process{"cpu." + n.cfg.VMID + ".setup": {}}); len(left) > 0 {
		t.Errorf("the setup has left the processes %v", left)
	}
	runs := func(want int) {
		t.Helper()
		text, err := os.ReadFile(count)
		if got := strings.Count(string(text), "run"); err != nil || got != want {
			t.Errorf("the setup has run %d times (%v), want %d", got, err, want)
		}
	}
	runs(1)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	again := launched(t, n.cfg, newBus(t))
	again.comesUp()
	runs(1)
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	n.cfg.BootID = "boot-2"
	launched(t, n.cfg, newBus(t)).comesUp()
	runs(2)
}

// TestSetupThatFails: the node is not ready, the report has the last lines, and after some
// tries the node is given up.
func TestSetupThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		timeout      time.Duration
		reason       string
	}{
		{"exit code", "echo no such package >&2; exit 3", time.Hour, "has ended with exit code 3: no such package"},
		{"a program of its own", "#!/bin/sh\necho \"$0\" | grep -c bash; exit 4", time.Hour, "exit code 4: 0"},
		{"no such interpreter", "#!/none/x\n", time.Hour, "cannot be run: no such file or directory"},
		{"too long", "echo waits for a mirror; sleep 1000", 200 * time.Millisecond, "has not ended within 200ms: waits for a mirror"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := setUp(t, c.script, func(cfg *Config) { cfg.SetupTimeout = c.timeout })
			n.booting(protocol.StageSetup, c.reason)
			n.until("the node to be given up", func(all []protocol.Report) bool {
				found := stages(all)
				last := found[len(found)-1]
				return last.Failed && strings.Contains(last.Reason, c.reason)
			})
			n.untaken()
		})
	}
}

// TestSetupIsTriedAgain: what fails for a moment is no reason to give a node up.
func TestSetupIsTriedAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tried")
	n := setUp(t, "[ -e "+file+" ] || { touch "+file+"; echo at first >&2; exit 1; }", nil)
	n.comesUp()
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// TestNewerUserData: what the agent does not understand is not passed over.
func TestNewerUserData(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Metadata, cfg.stageAfter = newModels(t, map[string]any{"v": 99}).URL, time.Millisecond
	n := launched(t, cfg, newBus(t))
	if b := n.booting(protocol.StageShare, "version 99"); !b.Failed {
		t.Errorf("got %+v, want the node to be given up", b)
	}
	n.untaken()
}

// TestExtraShares: jobs find the pool's other shares by variables.
func TestExtraShares(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Metadata = newModels(t, map[string]any{"v": 1, "shares": []map[string]string{
		{"account": "acmedata", "name": "data-sets", "path": "/mnt/data", "protocol": "smb", "auth": "key"}}}).URL
	n := launched(t, cfg, newBus(t))
	n.work(script(1, `echo hello > "$DSVM_SHARE_DATA_SETS/x"; echo "$DSVM_SHARE_DATA_SETS"`))
	if f := n.finished(1); f.State != string(job.AttemptSucceeded) {
		t.Errorf("got %+v", f)
	}
	want := filepath.Join(filepath.Dir(cfg.Share), "shares", "acmedata", "data-sets")
	if got := strings.TrimSpace(n.file(1, "stdout.log")); got != want {
		t.Errorf("the share is at %q, want %q", got, want)
	}
	cfg = config(t)
	cfg.ShareMounted = true
	l := launcherOf(t, cfg)
	err := l.openExtraShares(boot.Document{Shares: []pool.Share{{Account: "acmedata", Name: "data", Path: t.TempDir()}}})
	if err == nil || !strings.Contains(err.Error(), "is not mounted at") {
		t.Errorf("a share that is not mounted: got %v", err)
	}
}

// TestBoundedLog: a script that writes without end fills neither memory nor disk.
func TestBoundedLog(t *testing.T) {
	t.Parallel()
	l := &boundedLog{head: 10, tail: 10}
	for i := range 1000 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	text := string(l.text())
	if !strings.HasPrefix(text, "line 0\nlin\n... ") || !strings.HasSuffix(text, "line 999\n") || len(text) > 100 {
		t.Errorf("got %q", text)
	}
	if got := l.lastLines(1); got != "line 999" {
		t.Errorf("the last line is %q", got)
	}
}
