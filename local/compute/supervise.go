//go:build unix

package compute

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultRestart is the pause before a crashed agent is started again.
const defaultRestart = time.Second

// Supervise is the init process of an instance. It starts the agent (args). When the
// agent ends, it kills all other processes below itself, as systemd does with the control
// group of a unit, and starts the agent again. Processes that would have a unit of their own
// with systemd, and all below them, stay until the instance ends. It ends with all processes below it at the
// end of its standard input or on SIGTERM: the instance is deleted, or its server has
// ended. It returns the exit code.
func Supervise(args []string) int {
	if len(args) == 0 {
		os.Stderr.WriteString("an instance needs the command of its agent\n")
		return 2
	}
	// Each process that loses its parent becomes a child of this one, so no process can
	// leave the tree. All starts happen on this thread, because on Linux an agent dies
	// with the thread that started it.
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
		for range time.Tick(10 * time.Millisecond) { // the agent may have just been started
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
		killBelow(unitsOfTheirOwn)
		select {
		case <-time.After(pause):
		case <-stop:
		}
	}
	killBelow(func() []int { return nil })
	return 0
}

// start starts the agent and returns its process id. awaitExit notices its end.
func start(args []string) (int, error) {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	none, err := os.Open(os.DevNull) // the end of the supervisor's own input means something else
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

// awaitExit waits until the agent ends, and collects all other child processes that end
// before it.
func awaitExit(agent int) {
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if pid == agent || err == unix.ECHILD {
			return
		}
	}
}

// killBelow kills all processes below this one but those that spared lists, and all below
// them. It looks again after each round, because a killed process may have started another one.
func killBelow(spared func() []int) {
	for {
		children := processes()
		left := descendants(children, children[os.Getpid()]...)
		if stay := spared(); len(stay) > 0 {
			stay = descendants(children, stay...)
			left = slices.DeleteFunc(left, func(pid int) bool { return slices.Contains(stay, pid) })
		}
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

// lockFile locks the instance's directory. It waits for an earlier supervisor that still
// kills its processes.
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
