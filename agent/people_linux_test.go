package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/agent/door"
	"dsvmpools/agent/person"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// people is a node with sessions under test, and the authority that signs certificates.
type people struct {
	*node
	ca  ssh.Signer
	dir string
}

// needsSessions skips where there is no root or no OpenSSH; .ci/run installs it.
func needsSessions(tb testing.TB) {
	tb.Helper()
	if err := person.CanServe(); err != nil {
		tb.Skip(err)
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		tb.Skip("the client of OpenSSH is not installed")
	}
}

func sessionConfig(tb testing.TB) Config {
	tb.Helper()
	needsSessions(tb)
	cfg := config(tb)
	cfg.Pool, cfg.OwnUsers, cfg.SessionVotes, cfg.SessionGrace = "lab", true, 200*time.Millisecond, 200*time.Millisecond
	remembersAgain(tb, cfg)
	tb.Cleanup(func() {
		s := &sessions{cfg: cfg}
		for n := range person.RunFolders(s.key()) {
			p, err := person.Stored(filepath.Join(cfg.InstanceDir, "sessions", strconv.FormatInt(n, 10)))
			if err != nil {
				tb.Error(err)
				continue
			}
			b := newNotebook(cfg, slog.New(slog.DiscardHandler), nil, newState())
			(&sessions{notebook: b, cfg: cfg}).endKeeper(p, "the test is over")
		}
	})
	return cfg
}

// remembersAgain is remembers for a node whose pool has changed.
func remembersAgain(tb testing.TB, cfg Config) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), lines(mine(cfg)), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func beginPeople(tb testing.TB, cfg Config) *people {
	tb.Helper()
	return &people{node: launched(tb, cfg, newBus(tb)), ca: newSigner(tb), dir: tb.TempDir()}
}

func newSigner(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return signer
}

// session is the assignment of a session.
func (p *people) session(n int64, user string, uid int) protocol.WorkItem {
	return protocol.WorkItem{N: n, Assign: &protocol.Assignment{Job: fmt.Sprintf("S%d", n), Attempt: 1, User: user, CPUs: 1, Memory: 1 << 30,
		Session: &protocol.Session{User: user, UID: uid, Home: protocol.HomeLocal, Jupyter: protocol.JupyterOff,
			CAs: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.ca.PublicKey())))}}}}
}

// atRelay gives a session a place at a relay that is away.
func atRelay(w protocol.WorkItem) protocol.WorkItem {
	w.Assign.Session.Door = &protocol.Door{URL: "wss://127.0.0.1:1/$hc/lab-1", Token: "t"}
	return w
}

// started waits until a session is reported as started.
func (p *people) started(n int64) {
	p.tb.Helper()
	var failed *protocol.Finished
	p.until(fmt.Sprintf("session %d has started", n), func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Started != nil && i.Started.N == n {
					return true
				}
				if f := i.Finished; f != nil && f.N == n && f.State == string(job.AttemptStartFailed) {
					failed = f
					return true
				}
			}
		}
		return false
	})
	if failed != nil {
		p.tb.Fatalf("session %d: got %+v", n, *failed)
	}
}

// pass is a key with a certificate for a session.
type pass struct {
	by        ssh.Signer
	principal string
	until     time.Duration // from now
}

// makePass writes a key and its certificate, and returns the path of the key.
func (p *people) makePass(name string, of pass) string {
	p.tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		p.tb.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		p.tb.Fatal(err)
	}
	now := time.Now()
	cert := &ssh.Certificate{Key: key, CertType: ssh.UserCert, KeyId: "ann " + of.principal, ValidPrincipals: []string{of.principal},
		ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(of.until).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": ""}}}
	if err := cert.SignCert(rand.Reader, of.by); err != nil {
		p.tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		p.tb.Fatal(err)
	}
	path := filepath.Join(p.dir, name)
	for file, text := range map[string][]byte{path: pem.EncodeToMemory(block), path + "-cert.pub": ssh.MarshalAuthorizedKey(cert)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			p.tb.Fatal(err)
		}
	}
	return path
}

func (p *people) run(n int64) string { return person.RunFolder("lab."+p.cfg.VMID, n) }

// ssh runs a command by OpenSSH's own client, with the host key that the node has reported.
func (p *people) ssh(n int64, user, key string, command ...string) (string, error) {
	p.tb.Helper()
	cmd := p.sshCommand(n, user, key, command...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return strings.TrimSpace(out.String()), err
}

func (p *people) sshCommand(n int64, user, key string, command ...string) *exec.Cmd {
	p.tb.Helper()
	known := filepath.Join(p.dir, "known_hosts")
	var hostKeys []string
	p.until("the node has reported its host keys", func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Ready != nil && len(i.Ready.HostKeys) > 0 {
					hostKeys = i.Ready.HostKeys
				}
			}
		}
		return hostKeys != nil
	})
	if err := os.WriteFile(known, []byte("lab "+hostKeys[0]+"\n"), 0o600); err != nil {
		p.tb.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		p.tb.Fatal(err)
	}
	argv := []string{"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + known,
		"-o", "HostKeyAlias=lab", "-o", "StrictHostKeyChecking=yes",
		"-o", fmt.Sprintf("ProxyCommand=env SOCKET_UNDER_TEST=%s %s", filepath.Join(p.run(n), "ssh.sock"), program), user + "@lab"}
	return exec.Command("ssh", append(argv, command...)...)
}

// good is a pass for a session.
func (p *people) good(n int64) string {
	return p.makePass(fmt.Sprintf("good%d", n), pass{p.ca, fmt.Sprintf("session:S%d", n), time.Hour})
}

// signalOnWrite says when something is written.
type signalOnWrite struct {
	written chan struct{}
	said    bool
}

func (s *signalOnWrite) Write(piece []byte) (int, error) {
	if !s.said {
		s.said = true
		close(s.written)
	}
	return len(piece), nil
}

// doorToken waits until the door's file of a session has a token.
func (p *people) doorToken(n int64, want string) {
	p.tb.Helper()
	eventually(p.tb, fmt.Sprintf("token %q of session %d", want, n), func() bool {
		var f door.File
		text, err := os.ReadFile(filepath.Join(p.cfg.InstanceDir, "doors", strconv.FormatInt(n, 10)+".json"))
		return err == nil && json.Unmarshal(text, &f) == nil && f.Token == want && f.WebToken == "web "+want
	})
}
