package entrance_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
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
	gone := make(chan struct{})
	find := func(string) (entrance.Entry, bool) {
		return entrance.Entry{CAs: []ssh.PublicKey{ca.PublicKey()}, Inside: machine{make(chan struct{})}, Leave: func() { close(gone) }}, true
	}
	server := &entrance.Server{HostKey: host, Find: find, Enter: find, Log: slog.New(slog.DiscardHandler)}
	l := listen(t)
	go server.Serve(l)
	client, err = ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
		Auth: []ssh.AuthMethod{ssh.PublicKeys(shown)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, gone
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
