package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// startJob submits a script as somebody, and waits until it runs.
func (l *laptop) startJob(id, script string) {
	l.t.Helper()
	l.must(id, os.Args[0], "job", "submit", "--pool", "cpu", "--id", id, "--env", "COLOUR=blue", "--", "sh", "-c", script)
	l.until("the start of job "+id, func() bool {
		j, err := l.client.Job(l.ctx, id)
		return err == nil && j.State == job.Running
	})
}

// TestPeopleComeInToJobs has ann come in to her running job with OpenSSH's own client: as the
// job's user, to its files, with exact bytes and exit codes, and to its port. Bob, of the same
// team, the key, and a certificate of another job do not get in; the end of the job ends what she
// runs there.
func TestPeopleComeInToJobs(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	i, ann, bob := startPeople(t, `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1h"}`)
	ann.startJob("one", `id -u >uid; echo inside >file; sleep 600`)
	bob.startJob("two", `sleep 600`)
	dsvm := os.Args[0]

	ann.must("inside", dsvm, "job", "exec", "one", "--", "cat", "file")
	out, err := ann.run(dsvm, "job", "exec", "one", "--", "sh", "-c",
		`[ "$(id -u)" = "$(cat uid)" ] && echo "$COLOUR $DSVM_JOB_ID it's" && exit 7`)
	if exitCode(err) != 7 || out != "blue one it's\n" {
		t.Errorf("got %v and %q", err, out)
	}
	ann.passesBytes()
	ann.hasATerminal()
	ann.reachesThePort()

	// Nobody else gets in.
	if out, err := bob.run(dsvm, "job", "exec", "one", "--", "true"); err == nil || !strings.Contains(out, "only an operator") {
		t.Errorf("bob comes in to the job of ann: %v\n%s", err, out)
	}
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Lx2b3kHnVw8Sx0sIVSLFq1Q0Jq7BX7eB7dS0b8X1q"
	if _, err := i.client.CertifyJob(i.ctx, "one", key, 0); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("the function key gets a certificate: %v", err)
	}
	ann.comesInWrongly(bob)
	if entries, err := i.client.Audit(i.ctx, wire.AuditQuery{Target: "/api/jobs/one/certificate", Limit: 10}); err != nil ||
		!strings.Contains(fmt.Sprint(entries), "ann") || !strings.Contains(fmt.Sprint(entries), "403") {
		t.Errorf("the audit trail has %v, %v", entries, err)
	}

	// The end of the job ends what she runs there, whatever that does.
	c, screen := ann.command(dsvm, "job", "exec", "-t", "one")
	keys, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(keys, "trap '' HUP TERM; setsid sleep 4321 & echo start''ed $!\n")
	i.until("a shell in the job", func() bool { return strings.Contains(screen.String(), "started") })
	if _, err := i.client.Cancel(i.ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); exitCode(err) != 137 || !strings.Contains(screen.String(), "the job has ended") {
		t.Errorf("the shell ended as %v\n%s", err, screen)
	}
	i.job("one")
	if left, _ := exec.Command("pgrep", "-f", "^sleep 4321$").Output(); len(left) > 0 {
		t.Errorf("what she has started is left: %s", left)
	}
	out, err = ann.run(dsvm, "job", "exec", "one", "--", "true")
	if err == nil || !strings.Contains(out, "has ended as cancelled") {
		t.Errorf("after the end: %v\n%s", err, out)
	}
	// One that ends at once can be missed, and then it says so.
	ann.must("", dsvm, "job", "submit", "--pool", "cpu", "--id", "quick", "--", "true")
	if out, err := ann.run(dsvm, "job", "exec", "quick", "--", "true"); err != nil && !strings.Contains(out, "job") {
		t.Errorf("a job that ends at once: %v\n%s", err, out)
	}
}

// passesBytes sends many bytes of all kinds through a command, and gets them back as they are.
func (l *laptop) passesBytes() {
	l.t.Helper()
	data := make([]byte, 8<<20)
	for at := range data {
		data[at] = byte(at * at >> 3)
	}
	c := exec.CommandContext(l.ctx, os.Args[0], "job", "exec", "one", "--", "sh", "-c", "cat; echo to err >&2")
	var out, errs bytes.Buffer
	c.Env, c.Dir, c.Stdin, c.Stdout, c.Stderr = l.env, l.home, bytes.NewReader(data), &out, &errs
	if err := c.Run(); err != nil || sha256.Sum256(out.Bytes()) != sha256.Sum256(data) || errs.String() != "to err\n" {
		l.t.Errorf("%v, %d bytes came back of %d, and on the other way %q", err, out.Len(), len(data), errs.String())
	}
}

// hasATerminal runs a shell with a terminal whose size changes.
func (l *laptop) hasATerminal() {
	l.t.Helper()
	if _, err := exec.LookPath("script"); err != nil {
		l.t.Log("script is not installed, so that no size is looked at")
		return
	}
	c, screen := l.command("script", "-qec", "stty rows 33 cols 101; "+os.Args[0]+" job exec one", "/dev/null")
	keys, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	io.WriteString(keys, "stty size; tty -s && echo termi''nal\n")
	l.until("the size of the terminal", func() bool {
		return strings.Contains(screen.String(), "33 101") && strings.Contains(screen.String(), "terminal")
	})
	io.WriteString(keys, "exit 5\n")
	if err := c.Wait(); exitCode(err) != 5 {
		l.t.Errorf("the shell ended as %v\n%s", err, screen)
	}
}

// reachesThePort has the job listen on localhost, and reads there by a port here.
func (l *laptop) reachesThePort() {
	l.t.Helper()
	there, here := freePort(l.t), freePort(l.t)
	server, _ := l.command(os.Args[0], "job", "exec", "one", "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", there)
	way, said := l.command(os.Args[0], "job", "forward", "one", here+":"+there)
	for _, c := range []*exec.Cmd{server, way} {
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			l.t.Fatal(err)
		}
		defer func() { // as Ctrl-C does
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGINT)
			_ = c.Wait()
		}()
	}
	l.until("an answer of the job's port", func() bool {
		reply, err := http.Get("http://" + net.JoinHostPort("127.0.0.1", here) + "/file")
		if err != nil {
			return false
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		return string(text) == "inside\n"
	})
	if !strings.Contains(said.String(), "http://localhost:"+here) {
		l.t.Errorf("it says %q", said)
	}
	if out, err := l.run(os.Args[0], "job", "exec", "-L", here+":169.254.169.254:80", "one", "--", "true"); exitCode(err) != 2 {
		l.t.Errorf("a port of another machine: %v\n%s", err, out)
	}
}

// keepLogin comes in to a job, and keeps a copy of the files of the login: those of it are gone
// afterwards.
func (l *laptop) keepLogin(id string) (files string) {
	l.t.Helper()
	dir := l.t.TempDir()
	ssh, err := exec.LookPath("ssh")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ssh"),
			[]byte("#!/bin/sh\ncp -r \"$(dirname \"$2\")\" "+dir+"/files\nexec "+ssh+" \"$@\"\n"), 0o700)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	c, out := l.command(os.Args[0], "job", "exec", id, "--", "true")
	c.Env = append(c.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	if err := c.Run(); err != nil {
		l.t.Fatalf("%s comes in to %s: %v\n%s", l.login, id, err, out)
	}
	return filepath.Join(dir, "files")
}

// tryLogin comes in by the door and the host key of one login, with the certificate of another, and
// returns what the job is that it is led into.
func (l *laptop) tryLogin(door, certificate string) (string, error) {
	l.t.Helper()
	name := fmt.Sprintf("entry-%d", time.Now().UnixNano())
	if err := os.CopyFS(filepath.Join(l.home, ".dsvm", name), os.DirFS(door)); err != nil {
		l.t.Fatal(err)
	}
	return l.run("ssh", "-F", "none", "-o", "User=ann", "-o", "IdentityFile="+filepath.Join(l.home, ".dsvm", "id_ed25519"),
		"-o", "CertificateFile="+certificate, "-o", "UserKnownHostsFile="+filepath.Join(door, "known_hosts"), "-o", "IdentitiesOnly=yes",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ProxyCommand="+os.Args[0]+" door --entry "+name, "entry.dsvm", "echo $DSVM_JOB_ID")
}

// comesInWrongly tries what one login has at the door of another one's job, on the same node.
func (l *laptop) comesInWrongly(other *laptop) {
	l.t.Helper()
	mine, theirs := l.keepLogin("one"), other.keepLogin("two")
	own, foreign := filepath.Join(mine, "entry.dsvm-cert.pub"), filepath.Join(theirs, "entry.dsvm-cert.pub")
	for door, name := range map[string]string{mine: "the own door", theirs: "the door of another job"} {
		if out, err := l.tryLogin(door, own); err != nil || out != "one\n" {
			l.t.Errorf("%s leads the own certificate to %q: %v", name, out, err)
		}
		for certificate, name := range map[string]string{"none": "no certificate", foreign: "one for another key"} {
			if out, err := l.tryLogin(door, certificate); err == nil || !strings.Contains(out, "Permission denied") {
				l.t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
}
