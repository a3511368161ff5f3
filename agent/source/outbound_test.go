//go:build unix

package source

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
)

// inside is a server on an address of this machine that nobody has allowed. It counts
// who comes, and answers what must not be read outside.
func inside(t *testing.T, address string) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this machine has no address %s: %v", address, err)
	}
	var came atomic.Int64
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		http.Error(w, "inner-secret", http.StatusTeapot)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return s, &came
}

// TestSourceInside: no address of a repository leads to what is inside, by whatever
// name, and nothing is said of what is there.
func TestSourceInside(t *testing.T) {
	t.Parallel()
	gittest.Needs(t, "git")
	gittest.Needs(t, "ssh")
	s, came := inside(t, "127.0.0.1:0")
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	commit := strings.Repeat("12", 20)
	t.Run("all", func(t *testing.T) {
		for _, repository := range []string{
			"http://127.0.0.1" + port + "/r", "http://localhost" + port + "/r", "https://127.0.0.1" + port + "/r", "https://localhost" + port +
				"/r", "https://127.1" + port + "/r",
			"https://[::ffff:127.0.0.1]" + port + "/r", "https://0.0.0.0" + port + "/r", "https://169.254.169.254/latest",
			"https://[64:ff9b::7f00:1]" + port + "/r", "https://10.0.0.1/r",
			"ssh://git@127.0.0.1" + port + "/r", "ssh://git@localhost" + port + "/r", "ssh://git@[::ffff:127.0.0.1]" + port + "/r",
			"ssh://git@169.254.169.254/r",
		} {
			t.Run(repository, func(t *testing.T) {
				t.Parallel() // a fetch that is refused is tried again after some seconds
				cfg := config(t)
				cfg.AllowPrivate = outbound.Guard{}
				f := fetcherOf(t, cfg, job.Source{Repository: repository, Commit: commit})
				_, err := f.into(t, "w")
				if refused := (*outbound.RefusedError)(nil); !errors.As(err, &refused) {
					t.Fatalf("got %v", err)
				}
				text := err.Error() + details(err)
				for _, secret := range []string{"git says", "127.0.0.1", "inner-secret"} {
					if strings.Contains(text, secret) {
						t.Errorf("it is said %q", text)
					}
				}
				if !strings.Contains(text, "DSVM_ALLOW_PRIVATE_HOSTS") {
					t.Errorf("it is said %q", text)
				}
			})
		}
	})
	if n := came.Load(); n > 0 {
		t.Errorf("the server inside was reached %d times", n)
	}
}

// TestRedirectInside: a server that may be reached sends git on to one that may not, as
// an address, as a name, and as another protocol.
func TestRedirectInside(t *testing.T) {
	t.Parallel()
	s, came := inside(t, "127.0.0.2:0")
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, to := range []string{s.URL, "https://127.0.0.2:" + port, "http://[::ffff:127.0.0.2]:" + port, "http://169.254.169.254"} {
		o.Elsewhere = to
		f := fetcherOf(t, config(t), *o.Source(commit))
		_, err := f.into(t, "w")
		refused := (*outbound.RefusedError)(nil)
		if protocol := strings.HasPrefix(to, "https:"); errors.As(err, &refused) == protocol || err == nil || came.Load() > 0 {
			t.Errorf("to %s: got %v, and the server inside was reached %d times", to, err, came.Load())
		}
		if text := details(err); strings.Contains(text, "inner-secret") {
			t.Errorf("to %s: it is said %q", to, text)
		}
	}
	o.Elsewhere = ""
	if tree, err := fetcherOf(t, config(t), *o.Source(commit)).into(t, "w"); err != nil || !exists(filepath.Join(tree, "a")) {
		t.Errorf("without a redirect: got %v", err)
	}
}

// TestSubmoduleInside: an address that a repository's own file names is held to the same.
func TestSubmoduleInside(t *testing.T) {
	t.Parallel()
	s, came := inside(t, "127.0.0.2:0")
	o := gittest.New(t)
	commit := o.Link("m", strings.Replace(s.URL, "http:", "https:", 1)+"/r", strings.Repeat("12", 20))
	source := o.Source(commit)
	source.Submodules = true
	_, err := fetcherOf(t, config(t), *source).into(t, "w")
	if refused := (*outbound.RefusedError)(nil); !errors.As(err, &refused) || came.Load() > 0 {
		t.Errorf("got %v, and the server inside was reached %d times", err, came.Load())
	}
}

// TestGateKeyIsHidden: the way out is told to git where no other user reads it.
func TestGateKeyIsHidden(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	f := fetcherOf(t, config(t), *o.Source(commit))
	var lines []string
	o.Look = func() {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range all {
			text, _ := os.ReadFile(name)
			lines = append(lines, string(text))
		}
	}
	if _, err := f.into(t, "w"); err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(f.gate.URL(), "gate:")
	key, _, _ = strings.Cut(key, "@")
	for _, line := range lines {
		if strings.Contains(line, key) {
			t.Errorf("a command line has the key: %q", line)
		}
	}
	c, err := net.Dial("tcp", f.gate.URL()[strings.LastIndexByte(f.gate.URL(), '@')+1:])
	if err != nil {
		return
	}
	defer c.Close() // somebody else has the port by now: it is another gate if it refuses the key
	fmt.Fprintf(c, "CONNECT 127.0.0.2:1 HTTP/1.1\r\nHost: 127.0.0.2:1\r\nProxy-Authorization: Basic %s\r\n\r\n",
		base64.StdEncoding.EncodeToString([]byte("gate:"+key)))
	reply, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && reply.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("the gate is open after the source was fetched: %s", reply.Status)
	}
}
