//go:build unix

package compute

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultRestart is the pause before a crashed agent is started again.
const defaultRestart = time.Second

// Supervise is an instance's init: it starts the agent (args), starts it again
// when it ends, and kills every process below it in between, as systemd does
// with a unit's control group. It ends, with everything below it, when its
// standard input does: then the instance is deleted, or the machine that it
// lives on is gone. SIGTERM ends it likewise. It returns the exit code.
func Supervise(args []string) int {
	if len(args) == 0 {
		os.Stderr.WriteString("an instance needs the command of its agent\n")
		return 2
	}
	// Everything that loses its parent comes to this process, so that nothing
	// can slip out of the tree. Processes are started from this one thread,
	// since on Linux an agent dies with the thread that started it.
	runtime.LockOSThread()
	becomeReaper()
	unlock, err := lockFile(os.Getenv("DSVM_INSTANCE_DIR"))
	if err != nil {
		os.Stderr.WriteString("the instance's directory cannot be locked: " + err.Error() + "\n")
		return 1
	}
	defer unlock()
	var stopping atomic.Bool
	var agent atomic.Int64
	stop := make(chan struct{})
	go func() {
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
		eof := make(chan struct{})
		go func() {
			io.Copy(io.Discard, os.Stdin)
			close(eof)
		}()
		select {
		case <-end:
		case <-eof:
		}
		stopping.Store(true)
		close(stop)
		for range time.Tick(10 * time.Millisecond) { // the agent may be just starting
			if pid := agent.Load(); pid > 0 {
				syscall.Kill(int(pid), syscall.SIGKILL)
			}
		}
	}()
	pause, err := time.ParseDuration(os.Getenv("DSVM_RESTART_DELAY"))
	if err != nil {
		pause = defaultRestart
	}
	for !stopping.Load() {
		pid, err := start(args)
		if err != nil {
			os.Stderr.WriteString("the agent cannot be started: " + err.Error() + "\n")
		} else {
			agent.Store(int64(pid))
			awaitExit(pid)
			agent.Store(0)
		}
		killBelow()
		select {
		case <-time.After(pause):
		case <-stop:
		}
	}
	killBelow()
	return 0
}

// start starts the agent. Its end is seen by awaitExit, as that of everything
// else below.
func start(args []string) (int, error) {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	none, err := os.Open(os.DevNull) // the supervisor's own input says when to end
	if err != nil {
		return 0, err
	}
	defer none.Close()
	p, err := os.StartProcess(program, args, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{none, os.Stdout, os.Stderr}, Sys: childAttr()})
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	p.Release()
	return pid, nil
}

// awaitExit reaps whatever ends until the agent has.
func awaitExit(agent int) {
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if pid == agent || err == unix.ECHILD {
			return
		}
	}
}

// killBelow kills until nothing is left below this process. What is killed may
// just have started something, so it looks again.
func killBelow() {
	for {
		children := processes()
		left := descendants(children, children[os.Getpid()]...)
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// lockFile takes the instance's directory for this process, waiting for a
// supervisor before it that is still taking its tree down.
func lockFile(dir string) (func(), error) {
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(dir+"/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return func() { f.Close() }, err
		}
	}
}
