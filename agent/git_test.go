//go:build unix

package agent

import (
	"context"
	"fmt"
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

// needGit skips a test where git is not installed, unless it is asked for.
func needGit(t *testing.T) {
	t.Helper()
	if _, err := lookUp("git", jobPath, ""); err != nil {
		if os.Getenv("DSVM_REQUIRE_GIT") != "" {
			t.Fatal("git is not installed, and DSVM_REQUIRE_GIT asks for it")
		}
		t.Skip("git is not installed; DSVM_REQUIRE_GIT=1 makes that a failure")
	}
}

// origin is a bare repository behind git's own HTTP server, and a clone to write
// to it with.
type origin struct {
	*httptest.Server
	t           *testing.T
	root, clone string

	login    string        // user:password; "" = anybody
	plain    bool          // speaks the first version of the protocol only
	asked    atomic.Int64  // requests that were let in
	hold     chan struct{} // not nil: packs wait for it
	held     chan struct{} // closed when one waits
	password string
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	needGit(t)
	o := &origin{t: t, root: t.TempDir(), clone: filepath.Join(t.TempDir(), "clone")}
	o.git(o.root, "init", "-q", "--bare", "-b", "main", "r.git")
	o.git(o.root, "clone", "-q", "r.git", o.clone)
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + o.root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + o.root, "GIT_CONFIG_NOSYSTEM=1"}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if o.login != "" && user+":"+password != o.login {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		o.asked.Add(1)
		if o.plain {
			r.Header.Del("Git-Protocol")
		}
		if o.hold != nil && r.Method == http.MethodPost {
			close(o.held)
			select {
			case <-o.hold:
			case <-r.Context().Done():
			}
			return
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
func fetcherOf(t *testing.T, cfg Config, source job.Source) *fetcher {
	t.Helper()
	l, err := newLauncher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSources(cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	return &fetcher{sources: s, key: l.key(1), source: source}
}

func (f *fetcher) into(t *testing.T, name string) (string, error) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), name)
	return tree, f.fetch(context.Background(), tree)
}
