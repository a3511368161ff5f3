//go:build unix

package source

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"dsvmpools/agent/process"
	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
)

// TestRedirect: a server that sends git elsewhere does not send the credential
// along.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var told atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			told.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(other.Close)
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	o.Login = "ann:" + testSecret
	source := o.Source(commit)
	source.Credential = "team"
	cfg := config(t)
	cfg.Credentials = gittest.Keep(t, "team", gittest.CredentialFor(o, testSecret))
	if _, err := fetcherOf(t, cfg, *source).into(t, "w"); err != nil {
		t.Fatalf("without a redirect: got %v", err)
	}
	source.Credential = ""
	if _, err := fetcherOf(t, cfg, *source).into(t, "w"); err == nil || !strings.Contains(err.Error(), "asks for a credential") {
		t.Errorf("what was fetched with a credential, without one: got %v", err)
	}
	source.Credential = "team"
	o.Elsewhere = other.URL
	f := fetcherOf(t, config(t), *source)
	f.cfg.Credentials = cfg.Credentials
	if _, err := f.into(t, "w"); err == nil || told.Load() > 0 {
		t.Errorf("got %v, and the other server was told %d times", err, told.Load())
	}
}

// TestCertificates fetches by https from a server that only GIT_SSL_CAINFO
// vouches for.
func TestCertificates(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	secure := httptest.NewTLSServer(o.Config.Handler)
	t.Cleanup(secure.Close)
	source := job.Source{Repository: secure.URL + "/r.git", Commit: commit}
	cfg := config(t)
	if _, err := fetcherOf(t, cfg, source).into(t, "w"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger: got %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Env = []string{"GIT_SSL_CAINFO=" + ca}
	if tree, err := fetcherOf(t, cfg, source).into(t, "w"); err != nil || !exists(filepath.Join(tree, "a")) {
		t.Errorf("got %v", err)
	}
}

// TestSSH fetches with a key, from a server whose own key is known.
func TestSSH(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	gittest.Needs(t, "ssh")
	first := o.Commit("a", "1")
	o.Commit("a", "2")
	hostKey, _ := newKey(t)
	userKey, file := newKey(t)
	addr := serveSSH(t, o, hostKey, userKey.PublicKey())
	host, port, _ := net.SplitHostPort(addr)
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(hostKey.PublicKey()))
	if err := os.WriteFile(hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Credentials = gittest.Keep(t, "key", fmt.Sprintf("url=ssh://git@%s/\nkey=%s\nhosts=%s\n", addr, file, hosts))
	source := job.Source{Repository: "ssh://git@" + addr + o.Root + "/r.git", Commit: first, Credential: "key"}
	tree, err := fetcherOf(t, cfg, source).into(t, "w")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Git(tree, "rev-parse", "HEAD"); got != first {
		t.Errorf("got %s, want %s", got, first)
	}
	if err := os.WriteFile(hosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetcherOf(t, config(t), job.Source{Repository: source.Repository, Commit: first}).into(t, "w"); err == nil ||
		!strings.Contains(err.Error(), "Host key verification failed") {
		t.Errorf("without a credential: got %v", err)
	}
}

// newKey makes a key, and a file of it.
func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer, file
}

// serveSSH runs git-upload-pack for a client with the key.
func serveSSH(t *testing.T, o *gittest.Origin, host ssh.Signer, user ssh.PublicKey) string {
	t.Helper()
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(user.Marshal()) {
			return nil, fmt.Errorf("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveConnection(c, cfg, o.Root)
		}
	}()
	return l.Addr().String()
}

func serveConnection(c net.Conn, cfg *ssh.ServerConfig, home string) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				var asked struct{ Command string }
				if r.Type != "exec" || ssh.Unmarshal(r.Payload, &asked) != nil || !strings.HasPrefix(asked.Command, "git-upload-pack ") {
					r.Reply(false, nil)
					continue
				}
				r.Reply(true, nil)
				cmd := exec.Command("sh", "-c", asked.Command)
				cmd.Env = []string{"PATH=" + process.Path, "HOME=" + home, "GIT_CONFIG_NOSYSTEM=1"}
				in, _ := cmd.StdinPipe()
				cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
				var status struct{ Code uint32 }
				if cmd.Start() == nil {
					go func() { io.Copy(in, channel); in.Close() }()
					cmd.Wait()
				}
				channel.SendRequest("exit-status", false, ssh.Marshal(&status))
				return
			}
		}()
	}
}
