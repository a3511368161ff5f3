//go:build unix

package relay_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/internal/tlsport"
	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/relay"
)

// The tests of this file have Microsoft's own clients judge the relay. They run where
// DSVM_TEST_HYCO names a folder with ws/node_modules (hyco-ws 1.0.5 and ws 1.1) and
// https/node_modules (hyco-https 1.4.5 and ws 6), which .ci/run makes.

const (
	listenKey = "a2V5IHRvIGxpc3Rlbg=="
	sendKey   = "a2V5IHRvIHNlbmQ="
	bothKey   = "a2V5IGZvciBib3Ro"
	judgeTime = 3 * time.Minute
)

// startTLS starts a relay that Node.js trusts, and returns the file of its certificate.
func startTLS(t *testing.T) (*localrelay.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // for a port that the certificate can name
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	file := filepath.Join(t.TempDir(), "relay.pem")
	certificate, err := tlsport.OwnCertificate(file, addr, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := localrelay.Start(localrelay.Config{
		Addr: addr,
		TLS:  tlsport.Config(certificate),
		Rules: []localrelay.Rule{
			{Name: relay.RuleListen, Key: listenKey, Listen: true},
			{Name: relay.RuleSend, Key: sendKey, Send: true},
			{Name: "both", Key: bothKey, Listen: true, Send: true},
		},
		Entities: []localrelay.Entity{{Name: "lab-0"}, {Name: "lab-0-web", Anonymous: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, file
}

// node prepares a program of testdata with the modules of one package.
func node(t *testing.T, modules, certificate string, args ...string) *exec.Cmd {
	t.Helper()
	root := os.Getenv("DSVM_TEST_HYCO")
	if root == "" {
		t.Skip("DSVM_TEST_HYCO names no folder with hyco-ws and hyco-https")
	}
	ctx, cancel := context.WithTimeout(context.Background(), judgeTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(root, modules, "node_modules"), "NODE_EXTRA_CA_CERTS="+certificate, "NODE_NO_WARNINGS=1")
	return cmd
}

func wss(s *localrelay.Server) string {
	return "wss://" + strings.Replace(s.Addr(), "127.0.0.1", "localhost", 1)
}

func TestHycoWS(t *testing.T) {
	t.Parallel()
	s, certificate := startTLS(t)
	out, err := node(t, "ws", certificate, "testdata/hyco_ws.cjs", "both", wss(s), "lab-0", listenKey, sendKey).CombinedOutput()
	if text := string(out); err != nil || strings.Count(text, "ok ") != 7 || !strings.HasSuffix(text, "done\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestHycoWSWithOurs has hyco-ws listen for our sender, and send to our listener.
func TestHycoWSWithOurs(t *testing.T) {
	t.Parallel()
	s, certificate := startTLS(t)
	n, err := relay.ParseNamespace("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	t.Run("listens", func(t *testing.T) {
		cmd := node(t, "ws", certificate, "testdata/hyco_ws.cjs", "listener", wss(s), "lab-0", listenKey, sendKey)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
			t.Fatalf("got %q, error %v", line, err)
		}
		echoed(t, n, n.Token(relay.RuleSend, sendKey, "lab-0", until))
	})
	t.Run("sends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		token := n.Token(relay.RuleListen, listenKey, "lab-0", until)
		ready := make(chan error, 100)
		l := relay.Listener{Address: n.Address("lab-0"), Token: func() string { return token }, Socket: echo, State: func(err error) { ready <- err }}
		go l.Run(ctx)
		if err := <-ready; err != nil {
			t.Fatal(err)
		}
		out, err := node(t, "ws", certificate, "testdata/hyco_ws.cjs", "sender", wss(s), "lab-0", listenKey, sendKey).CombinedOutput()
		if text := string(out); err != nil || strings.Count(text, "ok ") != 4 {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}

// TestHycoHTTPS runs the tests that Microsoft wrote for hyco-https, which is listener there.
func TestHycoHTTPS(t *testing.T) {
	t.Parallel()
	s, certificate := startTLS(t)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(os.Getenv("DSVM_TEST_HYCO"), "https", "node_modules", "hyco-https")
	out, err := node(t, "https", certificate, "testdata/hyco_https.cjs", folder, "localhost", port, "lab-0", "both", bothKey).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 failed") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(string(out))
}
