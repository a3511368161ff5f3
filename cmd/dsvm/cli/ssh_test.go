package cli

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestSSHConfig(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own := filepath.Join(l.program.Home, ".ssh", "config")
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte("Host *\n  Compression yes\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	code, out, errs := l.run("ssh", "config", "--print")
	if _, err := os.Stat(filepath.Join(l.program.Home, ".dsvm", sshConfigFile)); code != 0 || err == nil {
		t.Errorf("--print: got %d %s, and the file %v", code, errs, err)
	}
	printed := out
	for range 2 { // the second time changes nothing
		code, out, errs = l.run("ssh", "config")
		if code != 0 || out != filepath.Join(l.program.Home, ".dsvm", sshConfigFile)+"\n" {
			t.Fatalf("got %d %s%s", code, out, errs)
		}
	}
	text := l.file(sshConfigFile)
	if text != printed {
		t.Errorf("--print says\n%sand the file is\n%s", printed, text)
	}
	match, host := `"*.dsvm,!*'*"`, "'%n'"
	if runtime.GOOS == "windows" {
		match, host = "*.dsvm", "%n"
	}
	for _, want := range []string{"Match originalhost " + match + " exec \"", " session ready --for " + host + "\"\n", "\n  User ann\n", "\nHost lab.dsvm\n",
		"/.dsvm/%n-cert.pub\"\n", "  StrictHostKeyChecking yes\n", " door --for " + host + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	after, err := os.ReadFile(own)
	if err != nil || string(after) != includeLine+"\n\nHost *\n  Compression yes\n" {
		t.Errorf("the person's own file is %q, %v", after, err)
	}
	if at, err := os.Stat(own); err != nil || runtime.GOOS != "windows" && at.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", at.Mode(), err)
	}
}

// OpenSSH reads the file as it is meant: it runs the program, and takes what it says of the host.
func TestOpenSSHReadsTheConfig(t *testing.T) {
	t.Parallel()
	client, err := exec.LookPath("ssh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("there is no ssh, or no shell")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "a folder", "dsvm") // of a path with a blank
	if err := os.MkdirAll(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	for ready, want := range map[string]string{"true": "proxycommand '" + program + "' door --for '%n'", "false": ""} {
		script := "#!/bin/sh\necho \"$@\" >" + dir + "/asked\nexec " + ready + "\n"
		if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		command, err := sshCommand(program, false)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, "config")
		text := sshConfigText(command, "ann", sshFolder(dir), Instance{Source: "/data of ann/instance.json"}, []string{"other.dsvm"}, false)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), client, "-G", "-F", config, "lab.dsvm").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if want != "" && (!strings.Contains(string(out), want) || !strings.Contains(string(out), "user ann\n")) {
			t.Errorf("%q is not in\n%s", want, out)
		}
		if want == "" && strings.Contains(string(out), "proxycommand") {
			t.Errorf("it would connect without a session:\n%s", out)
		}
		asked, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil || string(asked) != "session ready --for lab.dsvm --instance /data of ann/instance.json\n" {
			t.Errorf("it was asked %q, %v", asked, err)
		}
	}
}

func TestSSHCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path    string
		windows bool
		want    string // "" = it is refused
	}{
		{"/usr/local/bin/dsvm2", false, "/usr/local/bin/dsvm2"},
		{"/home/ann x/dsvm2", false, "'/home/ann x/dsvm2'"},
		{"/home/100%/dsvm2", false, "/home/100%%/dsvm2"},
		{"/home/ann's/dsvm2", false, ""},
		{"/home/\"/dsvm2", false, ""},
		{`C:\tools\dsvm2.exe`, true, `C:\tools\dsvm2.exe`},
		{`C:\Program Files\dsvm2.exe`, true, ""},
	} {
		got, err := sshCommand(c.path, c.windows)
		if runtime.GOOS == "windows" {
			got = strings.ReplaceAll(got, "/", `\`)
		}
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q: got %q, %v; want %q", c.path, got, err, c.want)
		}
	}
}

// The key pair is made once, also by many at once, and nobody else may read it.
func TestKeyPairIsMadeOnce(t *testing.T) {
	t.Parallel()
	folder := sshFolder(t.TempDir())
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, err := folder.publicKey()
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	for _, key := range keys {
		if key != keys[0] || !strings.HasPrefix(key, ssh.KeyAlgoED25519+" ") {
			t.Fatalf("the keys are %q", keys)
		}
	}
	at, err := os.Stat(folder.path(keyFile))
	if err != nil || runtime.GOOS != "windows" && at.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", at.Mode(), err)
	}
	if public, err := os.ReadFile(folder.path(keyFile + ".pub")); err != nil || strings.TrimSpace(string(public)) != keys[0] {
		t.Errorf("its public half is %q, %v", public, err)
	}
}

// `dsvm ssh` and `dsvm code` start the programs of this machine on the session, and end as
// they do.
func TestSSHAndCodeStartPrograms(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell")
	}
	l := newLab(t)
	l.comesUp()
	dir := t.TempDir()
	for _, name := range []string{"ssh", "code"} {
		script := "#!/bin/sh\necho " + name + " \"$@\"\nexit 7\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	config := filepath.Join(l.program.Home, ".dsvm", sshConfigFile)
	for args, want := range map[string]string{
		"ssh lab":                  "ssh -F " + config + " lab.dsvm\n",
		"ssh lab -- nvidia-smi -L": "ssh -F " + config + " lab.dsvm nvidia-smi -L\n",
		"code lab /home/ann":       "code --remote ssh-remote+lab.dsvm /home/ann\n",
	} {
		if code, out, errs := l.run(strings.Fields(args)...); code != 7 || out != want {
			t.Errorf("%s: got %d %s%s; want %s", args, code, out, errs, want)
		}
	}
	for _, args := range []string{"ssh", "ssh lab ls", "code"} {
		if code, _, errs := l.run(strings.Fields(args)...); code != codeWrongUse {
			t.Errorf("%s: got %d %s", args, code, errs)
		}
	}
}

// A program that nobody has signed in for is told to.
func TestSessionsNeedAPerson(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.before = func(http.ResponseWriter, *http.Request) bool { return false }
	for _, args := range []string{"connect lab", "ssh lab", "ssh config", "jupyter lab", "session ready --for lab.dsvm"} {
		if code, _, errs := l.run(strings.Fields(args)...); code == 0 || !strings.Contains(errs, "sign in with `dsvm login`") {
			t.Errorf("%s: got %d %s", args, code, errs)
		}
	}
	// In another context than that which `dsvm login` would take, the context is named.
	getenv, settings := l.program.Getenv, t.TempDir()
	l.program.Getenv = func(name string) string {
		if name == "DSVM_CONFIG_DIR" {
			return settings
		}
		return getenv(name)
	}
	if code, _, errs := l.run("context", "add", "other", "--url", "http://127.0.0.1:1", "--sign-in"); code != 0 {
		t.Fatal(errs)
	}
	for _, args := range []string{"connect lab", "job forward one 6006"} {
		_, _, errs := l.run(append([]string{"--context", "other"}, strings.Fields(args)...)...)
		if !strings.Contains(errs, "sign in with `dsvm --context other login`") || strings.Contains(errs, "leads to") {
			t.Errorf("%s: got %s", args, errs)
		}
	}
	if code, _, errs := l.run("job", "forward", "one", "abc"); code != codeWrongUse || !strings.Contains(errs, `"abc" names no port to lead`) {
		t.Errorf("got %d %s", code, errs)
	}
}
