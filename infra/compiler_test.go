package infra_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dsvmpools/infra"
)

// runBicep runs the compiler in dir and returns what it prints. The test is skipped
// where there is none. Calls do not wait for each other; one takes some seconds.
func runBicep(t *testing.T, dir string, args ...string) (out, said string) {
	t.Helper()
	out, said, err := tryBicep(t, dir, args...)
	if err != nil {
		t.Fatalf("bicep %s: %v\n%s%s", strings.Join(args, " "), err, out, said)
	}
	return out, said
}

// tryBicep is runBicep for calls that may fail.
func tryBicep(t *testing.T, dir string, args ...string) (out, said string, err error) {
	t.Helper()
	program := os.Getenv("BICEP")
	if program == "" {
		if program, err = exec.LookPath("bicep"); err != nil {
			t.Skip("there is no Bicep compiler on the PATH, and $BICEP names none")
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// complaint is a line of the compiler about a file: a property that a type does not
// have is a warning only.
var complaint = regexp.MustCompile(`(?m)^.*\(\d+,\d+\) : (?:Error|Warning|Info) .*$`)

// TestCompiles: the compiler and its linter have nothing to say, and what they make
// is what is committed.
func TestCompiles(t *testing.T) {
	t.Parallel()
	out, said := runBicep(t, ".", "build", "main.bicep", "--stdout")
	for _, line := range complaint.FindAllString(said, -1) {
		t.Error(line)
	}
	if !bytes.Equal(withoutGenerator(t, []byte(out)), withoutGenerator(t, infra.Template)) {
		t.Error("main.json is not what main.bicep compiles to; run `make template`")
	}
}

// withoutGenerator leaves out which compiler it was, and its hashes.
func withoutGenerator(t *testing.T, b []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var clean func(any)
	clean = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "_generator")
			for _, below := range v {
				clean(below)
			}
		case []any:
			for _, below := range v {
				clean(below)
			}
		}
	}
	clean(v)
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSnapshots: the expanded templates are those that were reviewed.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("snapshot/*.bicepparam")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			// It ends with an error when there is a difference.
			_, said := runBicep(t, ".", "snapshot", file, "--mode", "validate",
				"--subscription-id", "00000000-0000-0000-0000-000000000001", "--tenant-id", "00000000-0000-0000-0000-000000000002")
			for _, line := range complaint.FindAllString(said, -1) {
				t.Error(line)
			}
		})
	}
}

// TestFormat: all files are formatted as the compiler formats them.
func TestFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, _ := filepath.Glob("*.bicep")
	more, _ := filepath.Glob("modules/*.bicep")
	params, _ := filepath.Glob("snapshot/*.bicepparam")
	files = append(append(files, more...), params...)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"./**/*.bicep", "./**/*.bicepparam"} {
		runBicep(t, dir, "format", "--pattern", pattern)
	}
	for _, file := range files {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, after) {
			t.Errorf("%s is not formatted; run `make template`", file)
		}
	}
}

// TestRefused: parameters that Azure would refuse only at the second deployment, or
// after minutes, are refused before anything is made.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ instead, by, want string }{
		"a budget without its start": {"param budgetStart = '2026-11-01'", "", "budgetPerMonth needs budgetStart"},
		"no key":                     {"param sshPublicKey = 'ssh-ed25519 ", "param sshPublicKey = '' // '", "too short"},
		"a name of twelve":           {"param name = 'dsvmtesting'", "param name = 'dsvmtesting2'", "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile("snapshot/own.bicepparam")
			if err != nil {
				t.Fatal(err)
			}
			here, err := filepath.Abs(".")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			up, err := filepath.Rel(dir, here)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(b), test.instead, test.by, 1)
			if changed == string(b) {
				t.Fatalf("own.bicepparam has no %s", test.instead)
			}
			changed = strings.Replace(changed, "using '..", "using '"+filepath.ToSlash(up), 1)
			if err := os.WriteFile(filepath.Join(dir, "x.bicepparam"), []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			_, said, err := tryBicep(t, dir, "snapshot", "x.bicepparam", "--mode", "overwrite",
				"--subscription-id", "00000000-0000-0000-0000-000000000001", "--tenant-id", "00000000-0000-0000-0000-000000000002")
			if err == nil || !strings.Contains(said, test.want) {
				t.Errorf("got %v, %s; want it refused for %s", err, said, test.want)
			}
		})
	}
}
