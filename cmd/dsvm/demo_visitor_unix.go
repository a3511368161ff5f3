//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/shared/wire"
)

// visitor is a person of the demonstration, with a laptop: a home folder of their own, the
// command line, and the system's ssh.
type visitor struct {
	d                         *peopleDemo
	name, login, secret, home string
	owns                      bool // is the owner of the instance, who need not sign in
	session                   wire.Session
	window                    *window // nil = there is none
	lab                       *openLab
}

func newVisitor(d *peopleDemo, name string) *visitor {
	home := filepath.Join(d.dir, "laptop-of-"+name)
	return &visitor{d: d, name: name, login: name + "@local", secret: rand.Text(), home: home}
}

// newOwner is the person who runs the demonstration.
func newOwner(d *peopleDemo, account string) *visitor {
	v := newVisitor(d, account)
	v.owns = true
	return v
}

// transcript keeps what a program writes, and passes each whole line on.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	line func(string) // nil = nobody
	told int
}

func (t *transcript) Write(piece []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.text.Write(piece)
	for t.line != nil {
		line, _, whole := bytes.Cut(t.text.Bytes()[t.told:], []byte("\n"))
		if !whole {
			break
		}
		t.told += len(line) + 1
		t.line(string(line))
	}
	return n, err
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// environment is that of the programs on the person's laptop: nothing of an editor, in which
// this program may run, and nothing of another instance.
func (v *visitor) environment() []string {
	var all []string
	for _, one := range os.Environ() {
		if !strings.HasPrefix(one, "VSCODE_") && !strings.HasPrefix(one, "DSVM_") {
			all = append(all, one)
		}
	}
	all = append(all, "HOME="+v.home, "DSVM_CONFIG_DIR="+filepath.Join(v.home, "config"))
	if !v.owns { // who is found by the folder
		all = append(all, "DSVM_URL="+v.d.in.URL)
	}
	return all
}

// main runs the command line as on the person's laptop.
func (v *visitor) main(ctx context.Context, out, errs io.Writer, args ...string) error {
	if err := os.MkdirAll(v.home, 0o700); err != nil {
		return err
	}
	p := &cli.Program{
		In:  strings.NewReader(""),
		Out: out,
		Err: errs,
		Getenv: func(name string) string {
			for _, one := range v.environment() {
				if value, ok := strings.CutPrefix(one, name+"="); ok {
					return value
				}
			}
			return ""
		},
		Dir:       v.d.dir,
		Now:       time.Now,
		Zone:      v.d.p.Zone,
		ConfigDir: filepath.Join(v.home, "config"),
		Home:      v.home,
	}
	if code := p.Main(ctx, args); code != 0 {
		return fmt.Errorf("`dsvm %s` ended with exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

// dsvm runs the command line and returns its answer, or what it has said.
func (v *visitor) dsvm(ctx context.Context, args ...string) (string, error) {
	var out, errs transcript
	if err := v.main(ctx, &out, &errs, args...); err != nil {
		return errs.String(), err
	}
	return strings.TrimSpace(out.String()), nil
}

// codeAsked is how `dsvm login` asks for the code.
var codeAsked = regexp.MustCompile(`open (\S+) and type the code (\S+);`)

// signIn signs the person in with a code, which is typed into the issuer's page.
func (v *visitor) signIn(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said transcript
	ended := make(chan error, 1)
	go func() { ended <- v.main(ctx, io.Discard, &said, "login") }()
	var m []string
	err := v.d.await(ctx, "the code for "+v.name, func() (bool, error) {
		m = codeAsked.FindStringSubmatch(said.String())
		return m != nil, nil
	})
	if err != nil {
		return err
	}
	form := url.Values{"user_code": {m[2]}, "login": {v.login}, "secret": {v.secret}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m[1], strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	reply.Body.Close()
	if err := <-ended; err != nil {
		return fmt.Errorf("%s cannot sign in: %w\n%s", v.name, err, &said)
	}
	return nil
}

// connect gets the person a place, and waits for it.
func (v *visitor) connect(ctx context.Context) error {
	said := &transcript{line: func(line string) { v.d.say("%s: %s", v.name, strings.TrimPrefix(line, "dsvm: ")) }}
	if err := v.main(ctx, io.Discard, said, "connect", peoplePoolName); err != nil {
		return fmt.Errorf("%s gets no place: %w", v.name, err)
	}
	out, err := v.dsvm(ctx, "connect", peoplePoolName, "-o", "json") // the same session again
	if err == nil {
		err = json.Unmarshal([]byte(out), &v.session)
	}
	return err
}

// sshCommand is the system's ssh, with the settings that `dsvm ssh config` has written.
func (v *visitor) sshCommand(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ssh", append([]string{"-F", filepath.Join(v.home, cli.InstanceFolder, "ssh_config")}, args...)...)
	c.Env, c.Dir = v.environment(), v.home
	return c
}

// ssh runs a command on the node.
func (v *visitor) ssh(ctx context.Context, script string) (string, error) {
	out, err := v.sshCommand(ctx, peoplePoolName+wire.HostSuffix, script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// lookAround looks who the person is on the node, and leaves a file there.
func (v *visitor) lookAround(ctx context.Context) error {
	who, err := v.ssh(ctx, `cd; echo mine >private; chmod 644 private; echo "$(id -un) $(id -u) $(pwd)"`)
	want := fmt.Sprintf("%s %d /home/%[1]s", v.name, v.session.UID)
	if v.owns {
		want = fmt.Sprintf("%s %d %s", v.name, os.Getuid(), filepath.Join(v.d.dir, "home"))
	}
	if err != nil || who != want {
		return errors.Join(err, fmt.Errorf("on the node, %s is %q, and not %q", v.name, who, want))
	}
	v.d.say("ssh of %s: account, number and home are %s", v.name, who)
	return nil
}

// pry tries to read the file that another one has left.
func (v *visitor) pry(ctx context.Context, other string) error {
	if out, err := v.ssh(ctx, "cat /home/"+other+"/private"); err == nil {
		return fmt.Errorf("%s can read the home of %s: %s", v.name, other, out)
	}
	return nil
}

// window is a terminal on the node that stays open.
type window struct {
	*transcript
	keys  io.Writer
	ended chan struct{}
	err   error // of the end
}

// openWindow opens one, and waits for the greeting.
func (v *visitor) openWindow(ctx context.Context) error {
	out := &transcript{}
	c := v.sshCommand(ctx, "-tt", peoplePoolName+wire.HostSuffix)
	c.Stdout, c.Stderr = out, out
	keys, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return err
	}
	w := &window{transcript: out, keys: keys, ended: make(chan struct{})}
	go func() { w.err = c.Wait(); close(w.ended) }()
	v.window = w
	if err := w.press("echo it is $((40 + 2))\n"); err != nil {
		return err
	}
	return v.d.await(ctx, "the shell of "+v.name, func() (bool, error) { return w.has("it is 42"), w.failed() })
}

// isWarned reports whether the person was warned: on the terminal, or as the API tells.
func (v *visitor) isWarned(ctx context.Context) (bool, error) {
	if v.window == nil {
		now, err := v.d.client.Session(ctx, v.session.ID)
		if err != nil || now.EndsAt == nil {
			return false, err
		}
		v.d.say("the session of %s is warned: it ends at %s", v.name, now.EndsAt.Format(time.TimeOnly))
		return true, nil
	}
	if !v.window.has("***") {
		return false, v.window.failed()
	}
	v.d.say("on the terminal of %s: %s", v.name, v.window.warning())
	return true, nil
}

// doSomething presses a key, or saves a file in JupyterLab where there is no terminal.
func (v *visitor) doSomething(ctx context.Context) error {
	if v.window != nil {
		return v.window.press("\n")
	}
	return v.lab.save(ctx)
}

func (w *window) has(text string) bool { return strings.Contains(w.String(), text) }

// failed is an error once the window has closed, which it should not.
func (w *window) failed() error {
	select {
	case <-w.ended:
		return fmt.Errorf("a window has closed: %w\n%s", w.err, w.transcript)
	default:
		return nil
	}
}

func (w *window) press(keys string) error {
	if err := w.failed(); err != nil {
		return err
	}
	_, err := io.WriteString(w.keys, keys)
	return err
}

// warning is the line between the stars.
func (w *window) warning() string {
	_, text, _ := strings.Cut(w.String(), "*** ")
	text, _, _ = strings.Cut(text, " ***")
	return text
}

// awaitEnd waits until the window, if there is one, has closed.
func (w *window) awaitEnd(ctx context.Context) error {
	if w == nil {
		return nil
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return errors.New("a window is still open, though its session has ended")
	}
}
