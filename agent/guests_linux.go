package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/keeper"
	"dsvmpools/agent/process"
)

// servesGuests says that people can come in to attempts on this system.
const servesGuests = true

// startGuest starts a program while the attempt runs: what the attempt leaves is ended after
// that, and this with it.
func (r *run) startGuest(g *guest, start func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.guests == nil {
		return errAttemptEnded
	}
	if err := start(); err != nil {
		return err
	}
	r.guests.mu.Lock()
	r.guests.all[g] = true
	r.guests.mu.Unlock()
	return nil
}

// forget takes a guest of which nothing is left off the list, or of which nobody knows: then it was
// not bare.
func (all *guests) forget(g *guest, bare bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.all, g)
	all.left = all.left || !bare
}

// startProcess starts a guest on a thread of its own, which sees what the attempt's slot sees, and
// which the guest dies with.
func (in *inside) startProcess(argv0 string, argv []string, attr *syscall.ProcAttr) (*guest, error) {
	g := &guest{done: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error, 1)
	onThread(func() {
		k := in.run.slot
		err := k.shareView()
		var follow func() (bare bool)
		if err == nil && k.group == nil {
			follow, err = in.startKept(g, argv0, argv, attr)
		} else if err == nil {
			follow, err = in.startGrouped(g, argv0, argv, attr)
		}
		if started <- err; err != nil {
			return
		}
		in.guests.forget(g, follow())
		close(g.gone)
	})
	return g, <-started
}

// shareView gives this thread, which is not used again, the view of a slot.
func (k *slot) shareView() error {
	if k.view == nil {
		return nil
	}
	namespace, err := os.Open("/proc/self/task/" + strconv.Itoa(k.thread) + "/ns/mnt")
	if err != nil {
		return err
	}
	defer namespace.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	unix.Umask(jobsUmask)
	return unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)
}

// startGrouped starts a guest in the control group of the attempt, which ends it with the rest.
func (in *inside) startGrouped(g *guest, argv0 string, argv []string, attr *syscall.ProcAttr) (follow func() (bare bool), err error) {
	group, pid := in.run.slot.group, 0
	var mu sync.Mutex
	over := false
	g.signal = func(s syscall.Signal) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			unix.Kill(-pid, s)
		}
	}
	g.end = func() { g.signal(unix.SIGKILL) }
	err = in.run.startGuest(g, func() (err error) {
		if err := group.enter(); err != nil {
			return err
		}
		defer group.leave()
		group.setBirthGroup(attr.Sys)
		mu.Lock()
		defer mu.Unlock()
		pid, err = syscall.ForkExec(argv0, argv, attr)
		return err
	})
	return func() bool {
		process.AwaitEnd(pid)
		mu.Lock()
		defer mu.Unlock()
		var status syscall.WaitStatus
		process.Reap(pid, &status)
		over, g.code = true, exitCodeOf(status)
		close(g.done)
		return true // the group says what is left
	}, err
}

// enter has this thread's children be born in the group. With version 2 they are told to be.
func (g *group) enter() error {
	for _, dir := range g.threads {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// leave takes this thread out of the group again.
func (g *group) leave() {
	for _, dir := range g.threads {
		_ = os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(dir)), "tasks"), []byte("0"), 0)
	}
}

// startKept starts a guest below a keeper of its own, which ends everything that it leaves.
func (in *inside) startKept(g *guest, argv0 string, argv []string, attr *syscall.ProcAttr) (follow func() (bare bool), err error) {
	k, err := keeper.Start(in.slots.launcher.node(), in.slots.lock)
	if err != nil {
		return nil, err
	}
	return g.startBelow(k, func() error {
		return in.run.startGuest(g, func() error {
			_, err := k.Launch(argv0, argv, attr)
			return err
		})
	})
}

// startProcess starts a program of an operator below a keeper, which ends everything that it
// leaves, also when the agent ends.
func (h *wholeNode) startProcess(argv0 string, argv []string, attr *syscall.ProcAttr) (*guest, error) {
	k, err := keeper.Start(h.name, nil)
	if err != nil {
		return nil, err
	}
	g := &guest{done: make(chan struct{})}
	follow, err := g.startBelow(k, func() error {
		_, err := k.Launch(argv0, argv, attr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go follow()
	return g, nil
}

// startBelow starts a guest below a keeper, which is closed when the guest has ended. follow
// returns when the keeper has ended, too, which it does when nothing is left below it, or when somebody has
// killed it: then it is not known to be bare.
func (g *guest) startBelow(k *keeper.Keeper, start func() error) (follow func() (bare bool), err error) {
	g.signal = func(s syscall.Signal) {
		if s == unix.SIGKILL {
			k.Kill()
			return
		}
		k.Signal(s, false)
	}
	g.end = k.Kill
	if err := start(); err != nil {
		k.Close()
		return nil, err
	}
	return func() bool {
		ended, isKnown := k.Wait()
		g.code = exitKilled
		if isKnown {
			g.code = exitCodeOf(ended.Status)
		}
		close(g.done)
		k.Close()
		k.AwaitEnd()
		return isKnown && ended.Empty
	}, nil
}

// exitCodeOf is the exit code of a process, as a shell says it.
func exitCodeOf(status syscall.WaitStatus) int {
	if status.Signaled() {
		const signalled = 128
		return signalled + int(status.Signal())
	}
	return status.ExitStatus()
}

// dialTime bounds connecting to a port of this machine.
var dialTime = unix.Timeval{Sec: 5}

// dialAs connects to a port of the loopback address as a user, for rules that look whose a socket
// is; nil = as the agent.
func dialAs(as *syscall.Credential, port int) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	dialled := make(chan result)
	onThread(func() { // its identity is not given back
		if as != nil {
			_ = unix.Setfsgid(int(as.Gid))
			_ = unix.Setfsuid(int(as.Uid))
			if now, _ := unix.SetfsuidRetUid(-1); now != int(as.Uid) {
				dialled <- result{nil, errors.New("the socket cannot be the job's")}
				return
			}
		}
		c, err := dialLoopback(port)
		dialled <- result{c, err}
	})
	r := <-dialled
	return r.c, r.err
}

func dialLoopback(port int) (net.Conn, error) {
	var all error
	for _, at := range []unix.Sockaddr{
		&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}},
		&unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}},
	} {
		c, err := dialSocket(at)
		if err == nil {
			return c, nil
		}
		all = errors.Join(all, err)
	}
	return nil, fmt.Errorf("nothing answers at port %d: %w", port, all)
}

// dialSocket connects a socket that this thread makes.
func dialSocket(at unix.Sockaddr) (net.Conn, error) {
	family := unix.AF_INET
	if _, is6 := at.(*unix.SockaddrInet6); is6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &dialTime); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, at); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
