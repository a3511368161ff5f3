package deploy

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The real az takes every argument that it is given, from the first look to the removal,
// and asks Azure for what is meant. DSVM_TEST_AZ names it; it is not signed in anywhere.
func TestRealAz(t *testing.T) {
	program := os.Getenv("DSVM_TEST_AZ")
	if program == "" {
		t.Skip("DSVM_TEST_AZ names no az")
	}
	r := newRecorder(t)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.authority.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HTTPS_PROXY": r.server.URL, "https_proxy": r.server.URL, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "REQUESTS_CA_BUNDLE": trusted,
		"IDENTITY_ENDPOINT": r.server.URL + "/msi/token", "IDENTITY_HEADER": "x", "AZURE_CONFIG_DIR": t.TempDir(),
		"AZURE_CORE_COLLECT_TELEMETRY": "false", "AZURE_CORE_NO_COLOR": "true",
	} {
		t.Setenv(name, value)
	}
	if out, err := exec.CommandContext(t.Context(), program, "login", "--identity").CombinedOutput(); err != nil {
		t.Fatalf("az cannot be signed in: %v\n%s", err, out)
	}
	b := newBench(t, nil)
	b.az = program
	steps := []struct {
		args   []string
		change func()
		check  func(out, said string) error
	}{
		{args: []string{"deploy", "tools", "location=westeurope", "--yes"}, check: func(out, _ string) error {
			if len(r.cloud.Blobs) != 1 || r.zip == 0 || r.cloud.Groups["tools"][versionTag] == "" || !strings.Contains(out, "https://fn.example") {
				return fmt.Errorf("got blobs %d, zip of %d bytes, tags %v", len(r.cloud.Blobs), r.zip, r.cloud.Groups["tools"])
			}
			return nil
		}},
		{args: []string{"upgrade", "tools", "image=UbuntuHPC", "--check"}, change: func() { r.cloud.Sets["dsvm-cpu"] = 3 }, check: func(out, said string) error {
			if !strings.Contains(out, "dsvm-cpu has 3 to replace") {
				return fmt.Errorf("got %s%s", out, said)
			}
			return nil
		}},
		{args: []string{"destroy", "tools", "--yes"}, check: func(_, said string) error {
			if len(r.cloud.Sets)+len(r.cloud.Deployments) != 0 || len(r.cloud.Resources) != 1 || len(r.cloud.Roles) != 1 || len(r.cloud.Assignments) != 1 || !r.cloud.Stopped {
				return fmt.Errorf("left: %v %v %v %v", r.cloud.Sets, r.cloud.Resources, r.cloud.Roles, r.cloud.Assignments)
			}
			return nil
		}},
		{args: []string{"destroy", "tools", "--with-share", "--yes"}, check: func(_, said string) error {
			if len(r.cloud.Groups) != 0 {
				return fmt.Errorf("left: %v", r.cloud.Groups)
			}
			return nil
		}},
	}
	for _, step := range steps {
		if step.change != nil {
			step.change()
		}
		code, out, said := b.run(step.args...)
		r.mu.Lock()
		err := step.check(out, said)
		if code != 0 || err != nil || len(r.unknown) > 0 {
			t.Fatalf("dsvm %s: got exit code %d, %v\n%s%s\nrequests: %s\nnot understood: %q", strings.Join(step.args, " "), code, err, out, said,
				strings.Join(r.requests, "\n"), r.unknown)
		}
		r.requests = nil
		r.mu.Unlock()
		t.Logf("dsvm %s\n%s%s", strings.Join(step.args, " "), out, said)
	}
}
