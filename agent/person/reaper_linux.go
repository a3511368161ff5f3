package person

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/process"
)

// systemPath is where programs of the system are looked for, and the person's PATH.
const systemPath = process.Path

// reaper starts processes and takes in the end of those, and of all that come to the keeper
// because they have lost their parent.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan syscall.WaitStatus{}}
	go r.run()
	return r
}

// reapPause is between two looks while there is no child at all: a process may come to the
// keeper at any time.
const reapPause = 50 * time.Millisecond

func (r *reaper) run() {
	for {
		// Looked at before it is reaped, so that a child that has ended at once is known.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			time.Sleep(reapPause)
			continue
		}
		r.mu.Lock()
		var status syscall.WaitStatus
		pid, _ := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid > 0 {
			if c := r.waiting[pid]; c != nil {
				c <- status
				delete(r.waiting, pid)
			}
		}
		r.mu.Unlock()
	}
}

// command is what is started.
type command struct {
	argv   []string
	as     *syscall.Credential // nil = root
	env    []string
	dir    string
	stdin  *os.File // nil = nothing
	login  bool     // the person's programs come of it
	stdout *os.File // also the standard error; nil = dropped
}

// plainScore starts a program that the kernel may kill for want of memory, unlike its keeper.
// What a person makes is for nobody else, unless the person says so.
const (
	plainScore = `umask 022; ` + resetScore + `; exec "$@"`
	ofPerson   = `umask 027; ` + resetScore + `; exec "$@"`
	// Who is not root may not lower it, and has it from whoever has started the agent.
	resetScore = `{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null`
)

// start starts a process. Its end comes on the channel.
func (r *reaper) start(c command) (int, <-chan syscall.WaitStatus, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	in, out := null, null
	if c.stdin != nil {
		in = c.stdin
	}
	if c.stdout != nil {
		out = c.stdout
	}
	script := plainScore
	if c.as != nil || c.login {
		script = ofPerson
	}
	argv := append([]string{"/bin/sh", "-c", script, "sh"}, c.argv...)
	ended := make(chan syscall.WaitStatus, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   c.env,
		Files: []uintptr{in.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: c.as},
	})
	if err != nil {
		return 0, nil, err
	}
	r.waiting[pid] = ended
	return pid, ended, nil
}

// maxOutput is the most that is read of what a program says.
const maxOutput = 4 << 10

// exitError is the end of a program that was not well.
type exitError struct {
	code int
	said string
}

func (e *exitError) Error() string {
	if e.said != "" {
		return e.said
	}
	return fmt.Sprintf("exit code %d", e.code)
}

// runOut runs a program to its end, and kills its group at the end of the context. The error
// quotes its last line.
func (r *reaper) runOut(ctx context.Context, c command) (string, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	c.stdout = write
	pid, ended, err := r.start(c)
	write.Close()
	if err != nil {
		return "", err
	}
	var said bytes.Buffer
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		io.Copy(&said, io.LimitReader(read, maxOutput))
		io.Copy(io.Discard, read)
	}()
	var status syscall.WaitStatus
	select {
	case status = <-ended:
	case <-ctx.Done():
		syscall.Kill(-pid, syscall.SIGKILL)
		<-ended
		return "", fmt.Errorf("%s has not ended in time", filepath.Base(c.argv[0]))
	}
	const drainWithin = time.Second // what it has left running may hold its output open
	select {
	case <-drained:
	case <-time.After(drainWithin):
		syscall.Kill(-pid, syscall.SIGKILL)
		read.Close()
		<-drained
	}
	text := strings.TrimSpace(said.String())
	if status.ExitStatus() != 0 {
		lines := strings.Split(text, "\n")
		return text, &exitError{status.ExitStatus(), strings.ToValidUTF8(lines[len(lines)-1], "")}
	}
	return text, nil
}

// exitCode is the exit code that an error tells of; -1 = it tells of none.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return -1
}
