//go:build unix

package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
)

// config is that of a fetcher whose servers are on loopback.
func config(t testing.TB) Config {
	t.Helper()
	here, err := outbound.Parse("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(t.TempDir(), "sources"), Timeout: time.Hour, CacheSize: job.Gi, AllowPrivate: here}
}

// fetcherOf is an attempt of a fetcher of its own.
func fetcherOf(t testing.TB, cfg Config, source job.Source) *attempt {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &attempt{Fetcher: f, Request: Request{Source: source, Key: "source." + t.Name()}}
}

func (a *attempt) into(t testing.TB, name string) (string, error) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), name)
	return tree, a.fetch(context.Background(), tree)
}

// TestGitSaysTooMuch: however much git writes, the end of it is kept, and nothing
// that would move a terminal's cursor.
func TestGitSaysTooMuch(t *testing.T) {
	t.Parallel()
	err := gitRun{key: "test", name: "sh", args: []string{"-c",
		`head -c 20000000 /dev/zero | tr '\0' x >&2; printf '\nremote: \033[31mred\rgone\nfatal: no\n' >&2; exit 3`}}.run(t.Context())
	var said *gitError
	if !errors.As(err, &said) || len(said.words) > maxGitWords {
		t.Fatalf("got %d bytes", len(err.Error()))
	}
	if got, want := err.Error(), "git says: remote: [31mred; gone; fatal: no"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (&gitError{strings.Repeat("fatal: ä\n", 1000)}).Error(); len(got) > 500-100 {
		t.Errorf("got a reason of %d bytes", len(got))
	}
	var out bounded
	err = gitRun{key: "test", name: "sh", args: []string{"-c", "head -c 20000000 /dev/zero"}, out: &out}.run(t.Context())
	if err != errTooLong || out.Len() > maxGitAnswer {
		t.Errorf("got %v and %d bytes of an answer", err, out.Len())
	}
}

// TestNoGit: a node without git says so before anything begins.
func TestNoGit(t *testing.T) {
	t.Parallel()
	if _, err := process.LookUp("git", t.TempDir(), ""); err == nil {
		t.Fatal("found where nothing is")
	}
	s := &Fetcher{path: t.TempDir()}
	if err := s.checkPrograms(false); err == nil || !strings.Contains(err.Error(), "git is not installed on this node") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.path, "git"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.checkPrograms(false); err != nil {
		t.Errorf("got %v", err)
	}
	if err := s.checkPrograms(true); err != errNoLFS {
		t.Errorf("got %v, want %v", err, errNoLFS)
	}
}
