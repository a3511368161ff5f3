package entrance_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/agent/entrance"
)

// machine is an Inside whose programs and ports are those of the test's own machine.
type machine struct{ ended chan struct{} }

func (machine) Start(c entrance.Command) (entrance.Process, error) {
	cmd := exec.Command("/bin/sh", "-c", c.Line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Files[0], c.Files[1], c.Files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return program{cmd}, nil
}

func (machine) Dial(port int) (net.Conn, error) {
	return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

func (m machine) Ended() <-chan struct{} { return m.ended }

type program struct{ cmd *exec.Cmd }

func (p program) Wait() int {
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p program) Signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

// visit connects somebody with a certificate. left is closed once that connection counts no more.
func visit(t *testing.T) (client *ssh.Client, left <-chan struct{}) {
	t.Helper()
	h := openHouse(t)
	return h.enter(t), h.left
}

// house is a server that lets in who has a certificate of its authority.
type house struct {
	address string
	config  *ssh.ClientConfig // of somebody with a certificate
	left    chan struct{}     // a value for each connection that counts no more
}

func openHouse(t *testing.T) house {
	t.Helper()
	ca, host, key := signer(t), signer(t), signer(t)
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "ann", ValidPrincipals: []string{"attempt:j/1"},
		ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	shown, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{}, 1)
	find := func(string) (entrance.Entry, bool) {
		return entrance.Entry{CAs: []ssh.PublicKey{ca.PublicKey()}, Inside: machine{make(chan struct{})}, Leave: func() {
			select {
			case left <- struct{}{}:
			default:
			}
		}}, true
	}
	server := &entrance.Server{HostKey: host, Find: find, Enter: find, Log: slog.New(slog.DiscardHandler)}
	l := listen(t)
	go server.Serve(l)
	return house{l.Addr().String(), &ssh.ClientConfig{
		Auth: []ssh.AuthMethod{ssh.PublicKeys(shown)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey())}, left}
}

func (h house) enter(t *testing.T) *ssh.Client {
	t.Helper()
	client, err := ssh.Dial("tcp", h.address, h.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// within fails the test if something does not happen: long before the time of a machine that is busy.
func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal(what)
	}
}

// A program that says nothing and never closes its end must not keep the door of a job open, for
// which the relay is paid by the hour, once the person has gone.
func TestSilentPortKeepsNobodyInside(t *testing.T) {
	t.Parallel()
	client, left := visit(t)
	silent := listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := silent.Accept(); err == nil {
			accepted <- c // and no more
		}
	}()
	if _, err := client.Dial("tcp", silent.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c := <-accepted
	defer c.Close()
	client.Close()
	within(t, "a port that says nothing keeps somebody inside who has gone", left)
}

// Who says nothing keeps nobody out, however many they are: the oldest of them is closed.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	const many = 200
	var first net.Conn
	for range many {
		c, err := net.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if first == nil {
			first = c
		}
	}
	closed := make(chan struct{})
	go func() { defer close(closed); _, _ = io.Copy(io.Discard, first) }()
	within(t, "the oldest silent connection stays", closed)
	h.enter(t)
}

// When too many are inside, the next one is told so, and comes in as soon as one has left.
func TestTooManyInside(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	const most = 64
	var inside []*ssh.Client
	for range most {
		client := h.enter(t)
		if _, err := client.NewSession(); err != nil { // it has its place by then
			t.Fatal(err)
		}
		inside = append(inside, client)
	}
	late := h.enter(t)
	if _, err := late.NewSession(); err == nil || !strings.Contains(err.Error(), "too many people") {
		t.Errorf("one more gets %v", err)
	}
	late.Close()
	inside[0].Close()
	within(t, "who leaves is not seen", h.left)
	for until := time.Now().Add(20 * time.Second); ; {
		if _, err := h.enter(t).NewSession(); err == nil {
			return
		} else if time.Now().After(until) {
			t.Fatalf("the place of one who has left is not free: %v", err)
		}
	}
}
