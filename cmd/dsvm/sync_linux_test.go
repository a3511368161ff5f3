package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/cmd/dsvm/cli"
)

// A job runs in a folder of this machine, and what it writes comes back: through the real
// host, handler and agent.
func TestOwnCode(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`)
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("run.sh", "#!/bin/sh\ncat data/größe.txt && ls && mkdir -p $DSVM_OUTPUT/sub && "+
		"cat data/größe.txt large.bin >\"$DSVM_OUTPUT/sub/a b%20c#é.bin\" && touch own\n", 0o755)
	large := strings.Repeat("0123456789abcdef", 400_000) // two blobs
	write("large.bin", large, 0o644)
	write("data/größe.txt", "first\n", 0o644)
	write("data/skip.ckpt", "no", 0o644)
	write(".dsvmignore", "*.ckpt\n", 0o644)
	if err := os.Symlink("data", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (code int, out, errs string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		p := &cli.Program{
			In:     strings.NewReader(""),
			Out:    &stdout,
			Err:    &stderr,
			Getenv: func(name string) string { return map[string]string{"DSVM_URL": i.URL, "DSVM_KEY": i.Key}[name] },
			Dir:    folder,
			Now:    time.Now,
			Zone:   time.UTC,
		}
		code = p.Main(i.ctx, args)
		return code, stdout.String(), stderr.String()
	}
	for _, text := range []string{"first\n", "second\n"} {
		write("data/größe.txt", text, 0o644)
		results := t.TempDir()
		code, out, errs := run("run", "--pool", "cpu", "--sync", ".", "--fetch", results, "--", "./run.sh")
		if want := text + "data\nlarge.bin\nlink\nrun.sh\n"; code != 0 || out != want {
			t.Fatalf("got %d %q %s, want %q", code, out, errs, want)
		}
		if got, err := os.ReadFile(filepath.Join(results, "sub", "a b%20c#é.bin")); err != nil || string(got) != text+large {
			t.Errorf("%d bytes came back: %v", len(got), err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "own")); err == nil {
		t.Error("the job has written into the folder of this machine")
	}
	gone := "tree:sha256:" + strings.Repeat("ab", 32)
	if code, _, errs := run("run", "--pool", "cpu", "--tree", gone, "true"); code != 125 || !strings.Contains(errs, "submit the job again with --sync") {
		t.Errorf("a folder that is not there: %d %s", code, errs)
	}
}
