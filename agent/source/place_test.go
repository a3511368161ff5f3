//go:build unix

package source

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
)

// TestSourceLocal: a node takes nothing from itself for a job that could not read
// it, unless it is told to.
func TestSourceLocal(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	cfg := config(t)
	file := job.Source{Repository: "file://" + o.Root + "/r.git", Commit: commit}
	if tree, err := fetcherOf(t, cfg, file).into(t, "w"); err != nil || !exists(filepath.Join(tree, "a")) {
		t.Errorf("allowed: got %v", err)
	}
	f := fetcherOf(t, cfg, file)
	f.As = &syscall.Credential{}
	if _, err := f.into(t, "w"); err != errOnNode {
		t.Errorf("got %v, want %v", err, errOnNode)
	}
	f.cfg.Local = true
	if err := f.checkTransport(file.Repository); err != nil {
		t.Errorf("got %v although it is allowed", err)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// TestSourceMovedOn: a commit that no branch leads to any more runs from what the
// node has kept, and elsewhere if the server still gives it out.
func TestSourceMovedOn(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) {
			t.Parallel()
			o := gittest.New(t)
			o.Plain.Store(plain)
			first := o.Commit("a", "1")
			gone := o.Commit("a", "2")
			cfg := config(t)
			if _, err := fetcherOf(t, cfg, *o.Source(gone)).into(t, "w"); err != nil {
				t.Fatal(err)
			}
			o.Git(o.Clone, "reset", "-q", "--hard", first)
			next := o.Commit("a", "3")
			for _, c := range []string{gone, first, next} {
				f := fetcherOf(t, cfg, *o.Source(c))
				tree, err := f.into(t, "w")
				if err != nil {
					t.Fatalf("with a cache: got %v", err)
				}
				if got := o.Git(tree, "rev-parse", "HEAD"); got != c {
					t.Errorf("got %s, want %s", got, c)
				}
				if got := o.Git(tree, "rev-list", "--count", "HEAD"); got != "1" {
					t.Errorf("got a history of %s commits, want 1", got)
				}
			}
			_, err := fetcherOf(t, config(t), *o.Source(gone)).into(t, "w")
			switch {
			case !plain && err != nil:
				t.Errorf("a server that gives out any commit: got %v", err)
			case plain && (err == nil || !strings.Contains(err.Error(), "on no branch or tag of the repository (any more)")):
				t.Errorf("a server that gives out what branches lead to: got %v", err)
			}
			if _, err := fetcherOf(t, config(t), *o.Source(first)).into(t, "w"); err != nil {
				t.Errorf("a commit below the tip: got %v", err)
			}
		})
	}
}

// BenchmarkSource is an attempt of a repository that the node knows: what git adds
// to it.
func BenchmarkSource(b *testing.B) {
	o := gittest.New(b)
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(o.Clone, fmt.Sprintf("file-%d", i)), bytes.Repeat([]byte(fmt.Sprint(i)), 2000), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	f := fetcherOf(b, config(b), *o.Source(o.Push()))
	if _, err := f.into(b, "w"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.into(b, "w"); err != nil {
			b.Fatal(err)
		}
	}
}
