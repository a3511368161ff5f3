//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// needs skips a test where a program is not installed, unless it is asked for.
func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := lookUp(program, jobPath, ""); err != nil {
		if os.Getenv("DSVM_REQUIRE_GIT") != "" {
			t.Fatalf("%s is not installed, and DSVM_REQUIRE_GIT asks for it", program)
		}
		t.Skipf("%s is not installed; DSVM_REQUIRE_GIT=1 makes that a failure", program)
	}
}

// origin is a bare repository behind git's own HTTP server, and a clone to write
// to it with.
type origin struct {
	*httptest.Server
	t           testing.TB
	root, clone string

	login     string           // user:password; "" = anybody
	plain     atomic.Bool      // speaks the first version of the protocol only
	mute      atomic.Bool      // never answers who wants a pack
	packs     atomic.Int64     // how many were wanted
	heard     chan struct{}    // gets a token for each
	large     http.HandlerFunc // not nil: answers what git-lfs asks
	elsewhere string           // where everybody is sent; "" = nowhere
	look      func()           // called when one who has the password wants something
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	needs(t, "git")
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	needs(t, server)
	o := &origin{t: t, heard: make(chan struct{}, 100), root: t.TempDir(), clone: filepath.Join(t.TempDir(), "clone")}
	o.git(o.root, "init", "-q", "--bare", "-b", "main", "r.git")
	o.git(o.root, "clone", "-q", "r.git", o.clone)
	backend := &cgi.Handler{Path: server,
		Env: []string{"GIT_PROJECT_ROOT=" + o.root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + o.root, "GIT_CONFIG_NOSYSTEM=1"}, Stderr: io.Discard}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if o.login != "" && user+":"+password != o.login {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		if o.large != nil && strings.Contains(r.URL.Path, "/lfs/") {
			o.large(w, r)
			return
		}
		if o.elsewhere != "" {
			http.Redirect(w, r, o.elsewhere+r.URL.String(), http.StatusMovedPermanently)
			return
		}
		if o.look != nil {
			o.look()
		}
		if o.plain.Load() {
			r.Header.Del("Git-Protocol")
		}
		if r.Method == http.MethodPost {
			o.packs.Add(1)
			select {
			case o.heard <- struct{}{}:
			default: // nobody counts them
			}
			if o.mute.Load() {
				io.Copy(io.Discard, r.Body) // only then is it noticed that the other side has gone
				<-r.Context().Done()
				return
			}
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// git runs git as a person would who pushes.
func (o *origin) git(dir string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + jobPath, "HOME=" + o.root, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes a file, commits and pushes it, and returns the commit.
func (o *origin) commit(name, text string) string {
	o.t.Helper()
	file := filepath.Join(o.clone, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
	return o.push()
}

// push commits everything and pushes it.
func (o *origin) push() string {
	o.t.Helper()
	o.git(o.clone, "add", "-A")
	o.git(o.clone, "commit", "-q", "-m", "a change")
	o.git(o.clone, "push", "-q", "--force", "origin", "HEAD:main")
	return o.git(o.clone, "rev-parse", "HEAD")
}

func (o *origin) source(commit string) *job.Source {
	return &job.Source{Repository: o.URL + "/r.git", Commit: commit}
}

// at makes an assignment of a script that runs at a commit.
func at(n int64, source *job.Source, text string) protocol.WorkItem {
	item := script(n, text)
	item.Assign.Source = source
	return item
}

// keep writes a credential's file and returns its folder.
func keep(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func credentialFor(o *origin, password string) string {
	return fmt.Sprintf("# of a test\nurl=%s/\nusername=ann\npassword=%s\n", o.URL, password)
}

// fetcherOf is a fetcher without an agent around it.
func fetcherOf(t testing.TB, cfg Config, source job.Source) *fetcher {
	t.Helper()
	l := launcherOf(t, cfg)
	s, err := newSources(cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	return &fetcher{sources: s, key: l.key(1), source: source}
}

func (f *fetcher) into(t testing.TB, name string) (string, error) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), name)
	return tree, f.fetch(context.Background(), tree)
}

// TestGitSaysTooMuch: however much git writes, the end of it is kept, and nothing
// that would move a terminal's cursor.
func TestGitSaysTooMuch(t *testing.T) {
	t.Parallel()
	err := gitRun{key: "test", name: "sh", args: []string{"-c", `head -c 20000000 /dev/zero | tr '\0' x >&2; printf '\nremote: \033[31mred\rgone\nfatal: no\n' >&2; exit 3`}}.run(t.Context())
	var said *gitError
	if !errors.As(err, &said) || len(said.words) > maxGitWords {
		t.Fatalf("got %d bytes", len(err.Error()))
	}
	if got, want := err.Error(), "git says: remote: [31mred; gone; fatal: no"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (&gitError{strings.Repeat("fatal: ä\n", 1000)}).Error(); len(got) > maxReason-100 {
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
	if _, err := lookUp("git", t.TempDir(), ""); err == nil {
		t.Fatal("found where nothing is")
	}
	s := &sources{path: t.TempDir()}
	if err := s.ready(false); err == nil || !strings.Contains(err.Error(), "git is not installed on this node") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.path, "git"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.ready(false); err != nil {
		t.Errorf("got %v", err)
	}
	if err := s.ready(true); err != errNoLFS {
		t.Errorf("got %v, want %v", err, errNoLFS)
	}
}
