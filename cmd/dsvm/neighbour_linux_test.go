package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local"
	"dsvmpools/shared/job"
)

// While a deployment is upgraded, the handler of one release works with the agents of the
// other. The newest tag's handler runs a job on this version's agent, and the reverse.
func TestNeighbourVersions(t *testing.T) {
	if os.Getenv("DSVM_LONG") == "" {
		t.Skip("builds another release, which takes a minute: DSVM_LONG=1")
	}
	tag, old := buildNeighbour(t)
	for _, older := range []string{"handler", "agent"} {
		t.Run(tag+" "+older, func(t *testing.T) {
			t.Parallel()
			// Every part of the instance is started by this script, which knows what is older.
			dir := t.TempDir()
			started, script := filepath.Join(dir, "started"), filepath.Join(dir, "dsvm")
			text := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = %s ]; then echo old $1 >> %s; exec %s \"$@\"; fi\necho new $1 >> %s\nexec %s \"$@\"\n",
				older, started, old, started, os.Args[0])
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			i := startInstance(t, nil, func(c *local.Config) { c.Program = []string{script} })
			i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
			i.send("jobs", body(`{"id":"first","pool":"cpu","command":["sh","-c","echo out; exit 0"]}`),
				body(`{"id":"second","pool":"cpu","command":["sh","-c","exit 3"]}`))
			if j := i.job("first"); j.State != job.Succeeded {
				t.Errorf("got %s: %s", j.State, j.Reason)
			}
			if j := i.job("second"); j.State != job.Failed || j.ExitCode == nil || *j.ExitCode != 3 {
				t.Errorf("got %+v", j)
			}
			log, err := os.ReadFile(started)
			newer := map[string]string{"handler": "new agent\n", "agent": "new handler\n"}[older]
			if err != nil || !bytes.Contains(log, []byte("old "+older+"\n")) || !bytes.Contains(log, []byte(newer)) {
				t.Errorf("started were %s, %v", log, err)
			}
		})
	}
}

// buildNeighbour builds the release before this version, without the network, and skips the
// test where there is none.
func buildNeighbour(t *testing.T) (tag, program string) {
	t.Helper()
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		t.Skip("this is no checkout: ", top)
	}
	// The tag of this very commit is this version; its neighbour is the one before.
	if tag, err = git("describe", "--tags", "--abbrev=0", "HEAD^"); err != nil {
		t.Skip("the checkout has no tags or no history: ", tag)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	if out, err := git("-c", "advice.detachedHead=false", "clone", "--quiet", "--shared", "--branch", tag, top, source); err != nil {
		t.Fatalf("the tag %s cannot be checked out: %s", tag, out)
	}
	program = filepath.Join(dir, "dsvm-of-the-neighbour")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/dsvm")
	build.Dir, build.Env = source, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("GOPROXY=off")) {
			t.Skipf("the modules of %s are not on this machine: %s", tag, out)
		}
		t.Fatalf("%s does not build: %v\n%s", tag, err, out)
	}
	return tag, program
}
