package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/protocol"
	"dsvmpools/shared/sshca"
)

// visitor is somebody with a key, and an authority that signs for it.
type visitor struct {
	n   *node
	key ssh.Signer
	ca  *sshca.Authority
}

func newVisitor(n *node) visitor {
	n.tb.Helper()
	path := filepath.Join(n.tb.TempDir(), "ca.pem")
	err := sshca.CreateFile(path)
	v := visitor{n: n}
	if err == nil {
		v.ca, err = sshca.OpenFile(path)
	}
	var key ed25519.PrivateKey
	if err == nil {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err == nil {
		v.key, err = ssh.NewSignerFromSigner(key)
	}
	if err != nil {
		n.tb.Fatal(err)
	}
	return v
}

// announce has the pool announce the visitor.
func (v visitor) announce(id string, target, seconds int64) {
	v.n.tb.Helper()
	ca, err := v.ca.PublicKey(v.n.tb.Context())
	if err != nil {
		v.n.tb.Fatal(err)
	}
	v.n.work(protocol.WorkItem{Enter: &protocol.Enter{ID: id, Target: target, For: seconds, CAs: []string{ca},
		Door: &protocol.Door{URL: "ws://127.0.0.1:9/$hc/cpu-1", Token: "t"}}})
}

// comeIn comes in with a certificate for something, past the door.
func (v visitor) comeIn(id string) (*ssh.Client, error) {
	v.n.tb.Helper()
	line := string(ssh.MarshalAuthorizedKey(v.key.PublicKey()))
	cert, err := v.ca.Sign(v.n.tb.Context(), sshca.Login{PublicKey: line, User: "ann", For: id, At: time.Now()})
	if err != nil {
		v.n.tb.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(cert.Line))
	if err != nil {
		v.n.tb.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(public.(*ssh.Certificate), v.key)
	if err != nil {
		v.n.tb.Fatal(err)
	}
	c, err := dialEntries(filepath.Join(v.n.cfg.InstanceDir, "doors"))
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(c, "node", &ssh.ClientConfig{
		User: "ann", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: deadline}) // OpenSSH checks the key in another test
	if err != nil {
		c.Close()
		return nil, err
	}
	client := ssh.NewClient(conn, channels, requests)
	v.n.tb.Cleanup(func() { client.Close() })
	return client, nil
}

// dialEntries connects to the socket of entries in a folder, however long the path of that is.
func dialEntries(doors string) (net.Conn, error) {
	dir, err := os.Open(doors)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), entrySocket))
}

// output runs a command, and returns what it writes.
func output(t *testing.T, c *ssh.Client, line string) (string, error) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Output(line)
	return string(out), err
}

// TestVisitors has somebody come in to a running attempt, however its processes are held: only with
// a certificate for it, into its folder and environment, until it ends; and the door does not stay
// open for nobody.
func TestVisitors(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]int{"by what is best": holdBest, "by keepers": holdKeeper} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.KillGrace, cfg.holdBy = 100*time.Millisecond, by
			n := launched(t, cfg, newBus(t))
			n.work(script(1, "echo here >mark; sleep 600"), script(2, "sleep 600"))
			n.until("both start", started(1))
			n.until("both start", started(2))
			v, id := newVisitor(n), protocol.EntryOfAttempt("job-1", 1)
			v.announce(id, 1, 600)
			file := filepath.Join(cfg.InstanceDir, "doors", entryPrefix+"1.json")
			eventually(t, "the file for the door", func() bool { return exists(file) })

			c, err := v.comeIn(id)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := output(t, c, `cat mark; echo $DSVM_JOB_ID; exit 3`); out != "here\njob-1\n" || codeIn(err) != 3 {
				t.Errorf("got %q, %v", out, err)
			}
			if _, err := c.Dial("tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "only ports of localhost") {
				t.Errorf("another machine: %v", err)
			}
			for what, try := range map[string]func() (*ssh.Client, error){
				"a job that nobody announced": func() (*ssh.Client, error) { return v.comeIn(protocol.EntryOfAttempt("job-2", 2)) },
				"a session":                   func() (*ssh.Client, error) { return v.comeIn(sshca.Principal("job-1")) },
				"another authority":           func() (*ssh.Client, error) { return newVisitor(n).comeIn(id) },
			} {
				if _, err := try(); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
					t.Errorf("%s: %v", what, err)
				}
			}
			v.announce(protocol.EntryOfAttempt("job-1", 2), 2, 600) // names another job than its number
			v.announce(protocol.EntryOfAttempt("job-2", 2), 2, 1)
			second := filepath.Join(cfg.InstanceDir, "doors", entryPrefix+"2.json")
			eventually(t, "the second file", func() bool { return exists(second) })
			eventually(t, "the end of a door that nobody needs", func() bool { return !exists(second) })

			// A job that has removed its folder: who comes in begins at the root.
			if out, err := output(t, c, `rm -r "$PWD"; test -d "$PWD" || echo gone`); err != nil || out != "gone\n" {
				t.Errorf("removing the folder: got %q, %v", out, err)
			}
			if out, err := output(t, c, "pwd"); err != nil || out != "/\n" {
				t.Errorf("without the folder: got %q, %v", out, err)
			}

			// The attempt ends, and with it what was started there.
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.StdoutPipe()
			if err == nil {
				err = s.Start("trap '' TERM HUP; setsid sleep 600 & echo $!; wait")
			}
			if err != nil {
				t.Fatal(err)
			}
			pid := make([]byte, 16)
			length, err := out.Read(pid)
			if err != nil {
				t.Fatal(err)
			}
			n.work(cancel(3, 1))
			if err := s.Wait(); codeIn(err) != 137 {
				t.Errorf("it ended as %v", err)
			}
			eventually(t, "the end of what it has started", func() bool { return !exists("/proc/" + strings.TrimSpace(string(pid[:length]))) })
			eventually(t, "the door's end", func() bool { return !exists(file) })
			if err := c.Wait(); err != nil && !errors.Is(err, io.EOF) {
				t.Logf("the connection ended as %v", err)
			}
			if _, err := v.comeIn(id); err == nil {
				t.Error("somebody comes in to an attempt that has ended")
			}
		})
	}
}

// TestVisitorsWhoseKeeperIsKilled has what holds a visitor's program killed, as the kernel does for
// want of memory: what that program has started ends with the attempt, all the same.
func TestVisitorsWhoseKeeperIsKilled(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.KillGrace, cfg.holdBy = 100*time.Millisecond, holdKeeper
	n := launched(t, cfg, newBus(t))
	n.work(script(1, "sleep 600"))
	n.until("it starts", started(1))
	v, id := newVisitor(n), protocol.EntryOfAttempt("job-1", 1)
	v.announce(id, 1, 600)
	eventually(t, "the file for the door", func() bool { return exists(filepath.Join(cfg.InstanceDir, "doors", entryPrefix+"1.json")) })
	c, err := v.comeIn(id)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err == nil {
		err = s.Start("setsid sleep 600 & echo $PPID $!; wait")
	}
	if err != nil {
		t.Fatal(err)
	}
	var keeper, left int
	if _, err := fmt.Fscan(out, &keeper, &left); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil {
		t.Error("the program goes on")
	}
	n.work(cancel(2, 1))
	eventually(t, "the end of what it has started", func() bool { return hasEnded(left) })
}

// hasEnded reports whether a process has ended, also where nobody has waited for it.
func hasEnded(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func codeIn(err error) int {
	var ended *ssh.ExitError
	if errors.As(err, &ended) {
		return ended.ExitStatus()
	}
	return -1
}
