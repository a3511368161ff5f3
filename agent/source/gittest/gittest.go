//go:build unix

// Package gittest is a Git server for tests of packages that fetch sources: a bare
// repository that git's own HTTP server serves, and a clone that writes to it. Only tests
// import it; it never contacts another server.
package gittest

import (
	"crypto/sha256"
	"encoding/hex"
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

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
)

// Needs skips a test where a program is not installed, unless it is asked for.
func Needs(t testing.TB, program string) {
	t.Helper()
	if _, err := process.LookUp(program, process.Path, ""); err != nil {
		if os.Getenv("DSVM_REQUIRE_GIT") != "" {
			t.Fatalf("%s is not installed, and DSVM_REQUIRE_GIT asks for it", program)
		}
		t.Skipf("%s is not installed; DSVM_REQUIRE_GIT=1 makes that a failure", program)
	}
}

// Origin is a bare repository that git's own HTTP server serves, and a clone that writes
// to it.
type Origin struct {
	*httptest.Server
	t           testing.TB
	Root, Clone string

	Login     string           // user:password; "" = anybody
	Plain     atomic.Bool      // speaks the first version of the protocol only
	Mute      atomic.Bool      // never answers who wants a pack
	Packs     atomic.Int64     // how many were wanted
	Heard     chan struct{}    // gets a token for each
	Large     http.HandlerFunc // not nil: answers what git-lfs asks
	Elsewhere string           // where everybody is sent; "" = nowhere
	Look      func()           // called when one who has the password wants something
}

// New starts a server and makes its repository, r.git, which has no commit yet.
func New(t testing.TB) *Origin {
	t.Helper()
	Needs(t, "git")
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	Needs(t, server)
	o := &Origin{t: t, Heard: make(chan struct{}, 100), Root: t.TempDir(), Clone: filepath.Join(t.TempDir(), "clone")}
	o.Git(o.Root, "init", "-q", "--bare", "-b", "main", "r.git")
	o.Git(o.Root, "clone", "-q", "r.git", o.Clone)
	backend := &cgi.Handler{Path: server,
		Env: []string{"GIT_PROJECT_ROOT=" + o.Root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + o.Root, "GIT_CONFIG_NOSYSTEM=1"}, Stderr: io.Discard}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if o.Login != "" && user+":"+password != o.Login {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		if o.Large != nil && strings.Contains(r.URL.Path, "/lfs/") {
			o.Large(w, r)
			return
		}
		if o.Elsewhere != "" {
			http.Redirect(w, r, o.Elsewhere+r.URL.String(), http.StatusMovedPermanently)
			return
		}
		if o.Look != nil {
			o.Look()
		}
		if o.Plain.Load() {
			r.Header.Del("Git-Protocol")
		}
		if r.Method == http.MethodPost {
			o.Packs.Add(1)
			select {
			case o.Heard <- struct{}{}:
			default: // nobody counts them
			}
			if o.Mute.Load() {
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

// Git runs git as a person would who pushes.
func (o *Origin) Git(dir string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + process.Path, "HOME=" + o.Root, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Commit writes a file, commits and pushes it, and returns the commit.
func (o *Origin) Commit(name, text string) string {
	o.t.Helper()
	file := filepath.Join(o.Clone, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
	return o.Push()
}

// Push commits everything and pushes it.
func (o *Origin) Push() string {
	o.t.Helper()
	o.Git(o.Clone, "add", "-A")
	o.Git(o.Clone, "commit", "-q", "-m", "a change")
	o.Git(o.Clone, "push", "-q", "--force", "origin", "HEAD:main")
	return o.Git(o.Clone, "rev-parse", "HEAD")
}

func (o *Origin) Source(commit string) *job.Source {
	return &job.Source{Repository: o.URL + "/r.git", Commit: commit}
}

// Keep writes a credential's file and returns its folder.
func Keep(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// CredentialFor is the text of a credential for the server, of the user ann.
func CredentialFor(o *Origin, password string) string {
	return fmt.Sprintf("# of a test\nurl=%s/\nusername=ann\npassword=%s\n", o.URL, password)
}

// Link commits a submodule without fetching it, and pushes.
func (o *Origin) Link(path, url, commit string) string {
	o.t.Helper()
	o.Git(o.Clone, "update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
	o.Git(o.Clone, "config", "-f", ".gitmodules", "submodule."+path+".path", path)
	o.Git(o.Clone, "config", "-f", ".gitmodules", "submodule."+path+".url", url)
	o.Git(o.Clone, "add", ".gitmodules")
	o.Git(o.Clone, "commit", "-q", "-m", "a submodule")
	o.Git(o.Clone, "push", "-q", "--force", "origin", "HEAD:main")
	return o.Git(o.Clone, "rev-parse", "HEAD")
}

// CommitLarge commits a pointer to a large file and returns the commit and the file's name.
func (o *Origin) CommitLarge(content string) (commit, name string) {
	o.t.Helper()
	sum := sha256.Sum256([]byte(content))
	name = hex.EncodeToString(sum[:])
	o.Git(o.Clone, "config", "remote.origin.url", filepath.Join(o.Root, "r.git"))
	o.Commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	return o.Commit("w.bin", fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", name, len(content))), name
}
