package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/wire"
)

// desktopPool has one node for two people, with desktops.
const desktopPool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":1},
	"sessions":{"resources":{"cpus":1},"jupyter":"off","desktop":"rdp"}}`

// rdpTools are what the test needs of the system; .ci/run installs them.
var rdpTools = []string{"xrdp", "xrdp-sesman", "xfreerdp", "Xvfb", "xprintidle", "nsenter"}

// TestDesktopOnOneMachine has ann come to her desktop by `dsvm rdp`: through the relay and the
// door to xrdp, which stands for the server of the node's image, in the view of her session. The
// client is xfreerdp, started by dsvm, with the password that the node has made and sealed. Then
// nothing but her own machine knows the password, nobody else comes in, and at the end of the
// session it is worth nothing.
func TestDesktopOnOneMachine(t *testing.T) {
	needRDP(t)
	i, ann, bob := startPeople(t, desktopPool)
	i.connect(ann, bob)
	session := i.sessionOf("ann")
	ann.must("", "ssh", ann.sshArgs("lab.dsvm", "printf '#!/bin/sh\\ntouch came\\nexec sleep 600\\n' >startwm.sh; chmod 755 startwm.sh")...)
	i.serveRDP(session.ID)
	display := i.startDisplay()

	c, out := ann.command(os.Args[0], "rdp", "lab")
	c.Env = append(slices.Clone(ann.env), "DISPLAY="+display)
	gone := start(t, c)
	came := func() bool {
		_, err := ann.run("ssh", ann.sshArgs("lab.dsvm", "test -e came")...)
		return err == nil
	}
	i.until("ann's desktop", func() bool { return came() || isOver(gone) })
	if !came() {
		t.Fatalf("ann's desktop has not come:\n%s", out)
	}
	if strings.Contains(out.String(), "password") {
		t.Errorf("the password is shown, although the client has it:\n%s", out)
	}
	i.until("the vote of an open desktop, and a connection", func() bool {
		s := ann.session(session.ID)
		vote := s.Votes["desktop"]
		return s.Connections["rdp"] == 1 && (strings.HasPrefix(vote, "busy: input") || strings.HasPrefix(vote, "idle for"))
	})

	// Another run prints the same password, and leaves the client to ann.
	address, password := ann.openPort()
	i.keepsSecret(ann, password)
	if got := i.tryLogin(display, address, "ann", password+"x"); got {
		t.Error("a wrong password opens the desktop")
	}
	// Bob has a desktop of his own, with a password of his own.
	if _, his := bob.openPort(); his == password {
		t.Error("two people have one password")
	}
	if _, err := bob.client.Desktop(i.ctx, session.ID, bob.desktopKey()); err == nil {
		t.Error("bob, or whoever has the function key, gets the way to ann's desktop")
	}
	// On another machine she gets another password; the first one is worth nothing any more.
	if err := os.Remove(filepath.Join(ann.home, ".dsvm", "desktop_key")); err != nil {
		t.Fatal(err)
	}
	address, second := ann.openPort()
	if second == password {
		t.Error("another key got the same password")
	}
	if got := i.tryLogin(display, address, "ann", password); got {
		t.Error("the password of the first machine still opens the desktop")
	}
	if got := i.tryLogin(display, address, "ann", second); !got {
		t.Error("the new password does not open the desktop")
	}

	ann.must("", os.Args[0], "session", "stop", "lab")
	i.until("the end of ann's session", func() bool { return ann.session(session.ID).State == wire.SessionEnded })
	i.until("the end of her client", func() bool { return isOver(gone) })
}

// needRDP skips a test where nobody has asked for desktops, and fails it where something is missing.
func needRDP(t *testing.T) {
	t.Helper()
	if os.Getenv("DSVM_TEST_RDP") == "" {
		t.Skip("DSVM_TEST_RDP is not set; with it, xrdp, xfreerdp, Xvfb and xprintidle must be installed")
	}
	for _, name := range rdpTools {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := net.Dial("tcp", "127.0.0.1:3389"); err == nil {
		c.Close()
		t.Fatal("something listens at 127.0.0.1:3389 already")
	}
}

// TestDesktopBesideTheRelay has ann come to her desktop where `access` prefers another way: in SSH, which
// goes that way, and with no byte by the relay.
func TestDesktopBesideTheRelay(t *testing.T) {
	needRDP(t)
	for _, access := range []string{"direct", "balancer"} {
		t.Run(access, func(t *testing.T) {
			i, ann, _ := startPeople(t, strings.Replace(desktopPool, `"sessions"`, `"access":["`+access+`"],"sessions"`, 1))
			i.connect(ann)
			session := i.sessionOf("ann")
			i.until("a way in by SSH", func() bool { // a balancer may be on its way
				_, err := ann.run("ssh", ann.sshArgs("lab.dsvm",
					"printf '#!/bin/sh\ntouch came\nexec sleep 600\n' >startwm.sh; chmod 755 startwm.sh")...)
				return err == nil
			})
			i.serveRDP(session.ID)
			display := i.startDisplay()
			c, out := ann.command(os.Args[0], "rdp", "lab")
			c.Env = append(slices.Clone(ann.env), "DISPLAY="+display)
			gone := start(t, c)
			came := func() bool {
				_, err := ann.run("ssh", ann.sshArgs("lab.dsvm", "test -e came")...)
				return err == nil
			}
			i.until("ann's desktop", func() bool { return came() || isOver(gone) })
			if !came() {
				t.Fatalf("ann's desktop has not come:\n%s", out)
			}
			address, password := ann.openPort()
			if i.tryLogin(display, address, "ann", password+"x") || !i.tryLogin(display, address, "ann", password) {
				t.Error("a wrong password opens the desktop, or the right one does not")
			}
			if s := ann.session(session.ID); s.Relayed != 0 || s.Connections["ssh"] == 0 {
				t.Errorf("%d bytes went by the relay, beside %v", s.Relayed, s.Connections)
			}
			ann.must("", os.Args[0], "session", "stop", "lab")
			i.until("the end of ann's session", func() bool { return ann.session(session.ID).State == wire.SessionEnded })
			i.until("the end of her client", func() bool { return isOver(gone) })
		})
	}
}

// start starts a program, and ends it with the test. The channel is closed at its end.
func start(t testing.TB, c *exec.Cmd) <-chan struct{} {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = c.Process.Kill()
			<-done
		}
	})
	return done
}

func isOver(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// serveRDP runs xrdp in the view of a session, where its account is.
func (i *instance) serveRDP(session string) {
	i.t.Helper()
	keeper := 0
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		if len(args) < 3 || args[1] != "dsvm-session-inside" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		plan, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "root", args[2], "inside.json"))
		if bytes.Contains(plan, []byte(`"session":"`+session+`"`)) {
			keeper = pid
		}
	}
	if keeper == 0 {
		i.t.Fatal("the session has no keeper")
	}
	// In the layer of the session, so that the machine's own settings stay as they are.
	const settings = `sed 's|^port=3389|port=tcp://.:3389|' /etc/xrdp/xrdp.ini >/etc/xrdp/own.ini && exec xrdp --nodaemon --config /etc/xrdp/own.ini`
	for _, argv := range [][]string{{"xrdp-sesman", "--nodaemon"}, {"sh", "-c", settings}} {
		c := exec.CommandContext(i.ctx, "nsenter", append([]string{"--mount", "--target", strconv.Itoa(keeper)}, argv...)...)
		out := &screen{}
		c.Stdout, c.Stderr = out, out
		start(i.t, c)
		i.t.Cleanup(func() {
			if i.t.Failed() {
				i.t.Logf("%s:\n%s", argv[0], out)
			}
		})
	}
	i.until("the server of RDP", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:3389")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// startDisplay starts a display for the client, and returns its name.
func (i *instance) startDisplay() string {
	i.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		i.t.Fatal(err)
	}
	defer read.Close()
	c := exec.CommandContext(i.ctx, "Xvfb", "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
	c.ExtraFiles = []*os.File{write}
	start(i.t, c)
	write.Close()
	var n int
	if _, err := fmt.Fscan(read, &n); err != nil {
		i.t.Fatalf("Xvfb: %v", err)
	}
	return ":" + strconv.Itoa(n)
}

// openPort runs `dsvm rdp --no-client`, and returns the port and the password that it prints.
func (l *laptop) openPort() (address, password string) {
	l.t.Helper()
	c, out := l.command(os.Args[0], "rdp", "lab", "--no-client")
	gone := start(l.t, c)
	printed := regexp.MustCompile(`address +(\S+)\nuser +\S+\npassword +(\S+)\n`)
	var m []string
	l.until("the port of "+l.login, func() bool {
		m = printed.FindStringSubmatch(out.String())
		return m != nil || isOver(gone)
	})
	if m == nil {
		l.t.Fatalf("dsvm rdp of %s:\n%s", l.login, out)
	}
	file, err := os.ReadFile(filepath.Join(l.home, ".dsvm", "lab.rdp"))
	if err != nil || !strings.Contains(string(file), "full address:s:"+m[1]+"\r\n") || strings.Contains(string(file), m[2]) {
		l.t.Errorf("the file for clients is %q, %v", file, err)
	}
	return m[1], m[2]
}

// tryLogin reports whether xrdp takes a password that comes through the port. A desktop that is
// open is found again, so that its log tells.
func (i *instance) tryLogin(display, address, user, password string) bool {
	i.t.Helper()
	before := len(i.sesmanLog())
	c := exec.CommandContext(i.ctx, "xfreerdp", "/v:"+address, "/u:"+user, "/cert:ignore", "/from-stdin:force")
	c.Env, c.Stdin = append(os.Environ(), "DISPLAY="+display), strings.NewReader(password+"\n")
	start(i.t, c)
	var said []string
	verdict := regexp.MustCompile(`(AUTHFAIL: user=|access granted\): username |reconnected session: username )` + user + `\b`)
	i.until("what xrdp says of "+user, func() bool {
		said = verdict.FindStringSubmatch(i.sesmanLog()[before:])
		return said != nil
	})
	_ = c.Process.Kill()
	return !strings.HasPrefix(said[0], "AUTHFAIL")
}

func (i *instance) sesmanLog() string {
	text, _ := os.ReadFile("/var/log/xrdp-sesman.log")
	return string(text)
}

// desktopKey is a key that something can be sealed to.
func (l *laptop) desktopKey() string { return "5/wAk7xQVpc5XJ2NvfCoTFpAMq4Uub1UmWf0hVDNKyc=" }

// keepsSecret looks for a password in all that the instance keeps, and in lists of processes.
func (i *instance) keepsSecret(l *laptop, password string) {
	i.t.Helper()
	err := filepath.WalkDir(filepath.Dir(i.Share), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		text, _ := os.ReadFile(path)
		if bytes.Contains(text, []byte(password)) {
			i.t.Errorf("%s has the password of %s", path, l.login)
		}
		return nil
	})
	if err != nil {
		i.t.Error(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		if text, _ := os.ReadFile(path); bytes.Contains(text, []byte(password)) {
			i.t.Errorf("the arguments of a process have the password: %q", text)
		}
	}
}
