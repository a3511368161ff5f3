package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// contextBench is a command line without an instance, and one that runs at an address.
func contextBench(t *testing.T) (b *bench, address string, env map[string]string) {
	t.Helper()
	b = newBench(t)
	address = b.program.Getenv("DSVM_URL")
	env = map[string]string{}
	b.program.Getenv = func(name string) string { return env[name] }
	b.program.ConfigDir = filepath.Join(t.TempDir(), "settings", "dsvm")
	return b, address, env
}

// rerun runs a command and returns what this one wrote.
func (b *bench) rerun(input string, args ...string) (code int, out, errs string) {
	b.t.Helper()
	b.out.b.Reset()
	b.err.b.Reset()
	b.program.In = strings.NewReader(input)
	return b.run(args...)
}

// TestContexts: a context is added with a key that nobody sees, used, and removed.
func TestContexts(t *testing.T) {
	t.Parallel()
	b, address, _ := contextBench(t)
	if code, _, errs := b.rerun("", "pool", "list"); code != codeFailure || !strings.Contains(errs, "no current context") {
		t.Errorf("without any: got %d %q", code, errs)
	}
	steps := []struct {
		input, args string
		code        int
		out, errs   string // parts
	}{
		{"", "context list", 0, "", "no contexts; `dsvm context add NAME --url URL` makes one"},
		{"secret\n", "context add prod --url " + address + "/", 0, "prod\n", ""},
		{"", "pool list", 0, "cpu", ""},
		{"other", "context add test --url https://test.example", 0, "test\n", ""},
		{"", "context list", 0, "CURRENT  NAME  URL\n*        prod  " + address, ""},
		{"", "context list -o json", 0, `"current": true`, ""},
		{"", "context use tst", 1, "", `there is no context "tst"; did you mean "test"?`},
		{"", "context use test", 0, "test\n", ""},
		{"", "--context prod pool list", 0, "cpu", ""},
		{"", "pool list --context prodd", 1, "", `did you mean "prod"?`},
		{"wrong", "context add prod --use --url " + address, 0, "prod\n", ""},
		{"", "pool list", 1, "", "does not accept the key that context \"prod\" has; `dsvm context add prod --url " + address + "`"},
		{"", "context remove prod", 0, "prod\n", ""},
		{"", "pool list", 1, "", "no current context"},
		{"", "context remove prod", 1, "", "there is no context"},
		{"", "context add x", 2, "", "--url"},
		{"k", "context add x --url https://ann:secret@test.example", 2, "", "is not the address of an instance"},
		{"k", "context add x --url https://test.example?code=secret", 2, "", "is not the address of an instance"},
		{"k", "context add x --url here", 2, "", "is not the address of an instance"},
		{"", "context add x --url https://x", 1, "", "no key was given"},
		{"k", "context add a/b --url https://x", 2, "", "cannot be the name of a context"},
	}
	for _, s := range steps {
		code, out, errs := b.rerun(s.input, strings.Fields(s.args)...)
		if code != s.code || !strings.Contains(out, s.out) || !strings.Contains(errs, s.errs) || s.errs == "" && errs != "" {
			t.Errorf("%s: got %d %q %q, want %d %q %q", s.args, code, out, errs, s.code, s.out, s.errs)
		}
		if key := strings.TrimSpace(s.input); key != "" && len(key) > 1 && strings.Contains(out+errs, key) {
			t.Errorf("%s: the key is shown: %q %q", s.args, out, errs)
		}
	}
}

// TestContextKeyFromATerminal: on a terminal the key is asked for.
func TestContextKeyFromATerminal(t *testing.T) {
	t.Parallel()
	b, address, _ := contextBench(t)
	b.program.Asks, b.program.ReadSecret = true, func() (string, error) { return "secret", nil }
	if code, out, errs := b.rerun("", "context", "add", "prod", "--url", address); code != 0 || out != "prod\n" || !strings.Contains(errs, "not shown") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if code, _, errs := b.rerun("", "pool", "list"); code != 0 {
		t.Errorf("got %d %q", code, errs)
	}
}

// TestContextsFileIsPrivate: nobody else may read the file, and one that others may read is
// refused.
func TestContextsFileIsPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes of files")
	}
	b, address, env := contextBench(t)
	env["DSVM_CONFIG_DIR"] = filepath.Join(t.TempDir(), "other")
	if code, _, errs := b.rerun("secret", "context", "add", "prod", "--url", address); code != 0 {
		t.Fatal(errs)
	}
	file := filepath.Join(env["DSVM_CONFIG_DIR"], contextsFile)
	at, err := os.Stat(file)
	if err != nil || at.Mode().Perm() != 0o600 {
		t.Fatalf("the file is %v, %v", at, err)
	}
	if above, err := os.Stat(filepath.Dir(file)); err != nil || above.Mode().Perm() != 0o700 {
		t.Errorf("its folder is %v, %v", above, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("beside the file there is %v", left)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := b.rerun("", "pool", "list"); code != codeFailure || !strings.Contains(errs, "chmod 600 "+file) {
		t.Errorf("a file that others may read: got %d %q", code, errs)
	}
}

// TestWhichInstance: the first that is there counts, as dsvm context --help says.
func TestWhichInstance(t *testing.T) {
	t.Parallel()
	b, _, env := contextBench(t)
	for _, name := range []string{"flag", "variable", "current"} {
		if code, _, errs := b.rerun("k", "context", "add", name, "--use", "--url", "http://"+name+".example"); code != 0 {
			t.Fatal(errs)
		}
	}
	folder := filepath.Join(b.program.Dir, InstanceFolder)
	which := func(want string) {
		t.Helper()
		found, err := b.program.findInstance()
		if err != nil || found.URL != "http://"+want+".example" {
			t.Errorf("got %q, %v, want %s", found.URL, err, want)
		}
	}
	which("current")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, InstanceFile), []byte(`{"url":"http://file.example"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	which("file")
	if _, _, errs := b.rerun("", "context", "use", "current"); !strings.Contains(errs, "commands here still talk to http://file.example") {
		t.Errorf("use says %q", errs)
	}
	env["DSVM_CONTEXT"] = "variable"
	which("variable")
	env["DSVM_URL"] = "http://address.example"
	which("address")
	b.program.context = "flag"
	which("flag")
}
