package agent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

// TestSecretsOfASession: the session's owner has the secrets, as files and as variables, and
// nobody else has; neither the disk nor the share, no command line, no report and no log of the
// node has a value.
func TestSecretsOfASession(t *testing.T) {
	t.Parallel()
	const (
		token = `s3cret "of' a $(session) \ that nobody % else may read`
		key   = "-----BEGIN KEY-----\ns3cret of several lines\n-----END KEY-----\n"
	)
	cfg := sessionConfig(t)
	cfg.SecretsFile = filepath.Join(t.TempDir(), "secrets.yaml")
	if err := os.WriteFile(cfg.SecretsFile, fmt.Appendf(nil, "acme-ml/hf-token: %q\nacme-ml/key: %q\n", token, key), 0o600); err != nil {
		t.Fatal(err)
	}
	p := beginPeople(t, cfg)
	mine := p.session(1, "ann", 200101)
	mine.Assign.Secrets = map[string]string{"HF_TOKEN": "keyvault:acme-ml/hf-token", "SIGN_KEY": "keyvault:acme-ml/key"}
	lacks := p.session(3, "eve", 200103)
	lacks.Assign.Secrets = map[string]string{"HF_TOKEN": "keyvault:acme-ml/none"}
	p.work(mine, p.session(2, "bob", 200102), lacks)
	p.started(1)
	p.started(2)
	if f := p.finished(3); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseSecret || !strings.Contains(f.Reason, `"none"`) {
		t.Errorf("a secret that is missing: got %+v", f)
	}
	ann, bob := p.good(1), p.good(2)
	for _, test := range []struct{ name, command, want string }{
		{"variable", `printf %s "$HF_TOKEN"`, token},
		{"file", `cat "$DSVM_SECRETS/HF_TOKEN"`, token},
		{"of several lines", `cat "$DSVM_SECRETS/SIGN_KEY"`, strings.TrimSpace(key)},
		{"no variable of several lines", `echo "${SIGN_KEY-none}"`, "none"},
		{"mode", `stat -c '%a %U' "$DSVM_SECRETS"/*`, "400 ann\n400 ann"},
		{"folder", `touch "$DSVM_SECRETS/x" 2>/dev/null || ln -s /etc/shadow "$DSVM_SECRETS/y" 2>/dev/null || stat -c '%a %U' "$DSVM_SECRETS"`, "750 root"},
	} {
		if got, err := p.ssh(1, "ann", ann, test.command); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	path := filepath.Join(p.run(1), "secrets/HF_TOKEN")
	if at, err := os.Stat(path); err != nil || at.Mode().Perm() != 0o400 {
		t.Fatalf("the file is %v, %v", at, err)
	}
	for name, command := range map[string]string{
		"another's file":     "cat " + path,
		"another's variable": `test -n "$HF_TOKEN$DSVM_SECRETS"`,
	} {
		if got, err := p.ssh(2, "bob", bob, command); err == nil {
			t.Errorf("%s: got %q, want it refused", name, got)
		}
	}
	run := p.sshCommand(1, "ann", ann, "echo up; sleep 1000")
	run.Stdout = &signalOnWrite{written: make(chan struct{})}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	<-run.Stdout.(*signalOnWrite).written
	for _, dir := range []string{cfg.InstanceDir, cfg.Share} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "s3cret") {
				t.Errorf("%s holds a secret (%v)", path, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if text, _ := os.ReadFile(line); strings.Contains(string(text), "s3cret") {
			t.Errorf("the command line %q holds a secret", text)
		}
	}
	p.mu.Lock()
	text := fmt.Sprintf("%+v", p.reports)
	p.mu.Unlock()
	if strings.Contains(text, "s3cret") {
		t.Error("a report holds a secret")
	}
	p.work(cancel(4, 1))
	p.finished(1)
	_ = run.Wait() // its session has ended
	eventually(t, "the end of the secrets", func() bool {
		_, err := os.Stat(filepath.Dir(path))
		return os.IsNotExist(err)
	})
}
