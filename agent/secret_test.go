//go:build unix

package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dsvmpools/agent/person"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// withSecrets is an agent whose file of secrets has one.
func withSecrets(t *testing.T, value string) *node {
	t.Helper()
	cfg := config(t)
	cfg.SecretsFile = filepath.Join(t.TempDir(), "secrets.yaml")
	if err := os.WriteFile(cfg.SecretsFile, fmt.Appendf(nil, "acme-ml/hf-token: %q\n", value), 0o600); err != nil {
		t.Fatal(err)
	}
	return launched(t, cfg, newBus(t))
}

// TestSecretReachesTheProcessAlone: the process has the value in its environment, and while
// it runs neither the node's disk, nor the share, nor a command line, nor a report has it.
func TestSecretReachesTheProcessAlone(t *testing.T) {
	t.Parallel()
	const value = "s3cret-of-a-job-that-nobody-else-may-read"
	n := withSecrets(t, value)
	runs := script(1, `printf %s "$HF_TOKEN" | sha256sum | cut -c1-64; echo $$; echo up >&2; exec sleep 1000`)
	if runtime.GOOS == "darwin" {
		runs = script(1, `printf %s "$HF_TOKEN" | shasum -a 256 | cut -c1-64; echo $$; echo up >&2; exec sleep 1000`)
	}
	runs.Assign.Secrets = map[string]string{"HF_TOKEN": "keyvault:acme-ml/hf-token"}
	n.work(runs)
	n.until("the start", started(1))
	eventually(t, "the job's output", func() bool { return n.file(1, "stderr.log") != "" })
	sum := sha256.Sum256([]byte(value))
	lines := strings.Fields(n.file(1, "stdout.log"))
	if len(lines) != 2 || lines[0] != hex.EncodeToString(sum[:]) {
		t.Fatalf("the process has printed %q; want the hash of the secret and its number", lines)
	}
	for _, dir := range []string{n.cfg.InstanceDir, n.cfg.Share} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), value) {
				t.Errorf("%s holds the secret (%v)", path, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if runtime.GOOS == "linux" {
		checkProcesses(t, lines[1], value)
	}
	n.work(cancel(2, 1))
	n.finished(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if text := fmt.Sprintf("%+v", n.reports); strings.Contains(text, value) {
		t.Errorf("the secret is in a report")
	}
}

// checkProcesses looks for a secret in command lines, and at who can read the environment
// of the process that has it.
func checkProcesses(t *testing.T, pid, value string) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), value) {
			t.Errorf("%s holds the secret", file)
		}
	}
	environ := "/proc/" + pid + "/environ"
	if text, err := os.ReadFile(environ); err != nil || !strings.Contains(string(text), value) {
		t.Errorf("the process itself does not have the secret (%v)", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	other := exec.Command("cat", environ)
	other.Dir, other.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := other.CombinedOutput(); err == nil {
		t.Errorf("another user reads the environment of the process: %q", out)
	}
}

// TestSecretThatIsMissing: the attempt does not start, and the reason says what to do.
func TestSecretThatIsMissing(t *testing.T) {
	t.Parallel()
	n := withSecrets(t, "v")
	for i, reference := range []string{"keyvault:acme-ml/other", "hunter2"} {
		item := assign(int64(i+1), "true")
		item.Assign.Secrets = map[string]string{"HF_TOKEN": reference}
		n.work(item)
	}
	for id, want := range map[int64]protocol.Finished{
		1: {Cause: job.CauseSecret, Reason: "add acme-ml/other"},
		2: {Cause: job.CauseDocument, Reason: "keyvault:VAULT/SECRET"},
	} {
		f := n.finished(id)
		if f.State != string(job.AttemptStartFailed) || f.Cause != want.Cause || !strings.Contains(f.Reason, want.Reason) ||
			strings.Contains(f.Reason, "hunter2") {
			t.Errorf("assignment %d: got %+v, want the cause %s and %q", id, f, want.Cause, want.Reason)
		}
	}
}

// TestFeaturesAreReported: the pool learns with the first word what the agent understands.
func TestFeaturesAreReported(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.until("the first word", func(all []protocol.Report) bool { return len(all) > 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	ready := n.reports[0].Items[0].Ready
	want := protocol.Features()
	if person.CanServe() == nil {
		want = protocol.SessionFeatures()
	}
	if servesGuests {
		want = append(want, protocol.FeatureExec, protocol.FeatureShell)
	}
	slices.Sort(want)
	if ready == nil || !slices.Equal(ready.Features, want) || len(ready.Features) == 0 || len(ready.HostKeys) != 1 {
		t.Errorf("got %+v, want the features %v and a host key", ready, want)
	}
}
