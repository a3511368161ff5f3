package person

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/wholefile"
)

// inside is the argument of a keeper that has its view already.
const inside = role + "-inside"

// insideFile is the plan as it is within the view.
const insideFile = "inside.json"

// lockFD is the number of the lock's file in a keeper that has its view.
const lockFD = 100

// keeperScore keeps the kernel from killing the keeper for want of memory before anything
// of the session.
const keeperScore = -900

// init plays the keeper before anything else of the program is set up.
func init() {
	if len(os.Args) != 3 {
		return
	}
	var err error
	switch os.Args[1] {
	case role:
		runtime.LockOSThread() // a view is a thread's, until the program is begun anew in it
		err = enter(os.Args[2])
	case inside:
		err = keep(os.Args[2])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dsvm-session:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// enter takes the session's lock, enters its control groups, makes its view, and begins the
// program anew in that: only so are all of its threads there.
func enter(dir string) error {
	p, err := readPlan(dir)
	if err != nil {
		return err
	}
	lock, err := takeLock(p.Run)
	if err != nil || lock == nil {
		return err
	}
	os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, keeperScore), 0)
	for _, group := range p.Groups {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("the keeper cannot enter its control group: %w", err)
		}
	}
	if len(p.Groups) == 0 && !p.Own { // the groups of an account are not the session's alone
		p.Groups = ownGroups()
	}
	k := &keeper{plan: p}
	if !p.Own {
		if err := k.makeView(); err != nil {
			// Said by the keeper itself, so that whoever waits for it learns why.
			k.plan.ViewFault = err.Error()
		}
	}
	text, err := json.Marshal(k.plan)
	if err != nil {
		return err
	}
	if err := wholefile.Replace(filepath.Join(k.plan.State, insideFile), text, 0o600); err != nil {
		return err
	}
	if err := unix.Dup3(int(lock.Fd()), lockFD, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{os.Args[0], inside, k.plan.State}, os.Environ())
}

// lockWithin is how long a keeper tries to take its lock. Whoever asks Lives has the lock for
// some microseconds, and must not be taken for another keeper.
const lockWithin = 200 * time.Millisecond

// takeLock takes the lock of a session; nil = another one keeps the session.
func takeLock(run string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(run, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWithin); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Now().After(end) {
			f.Close()
			return nil, nil
		}
	}
}

// ownGroups are the control groups that systemd has put the keeper into.
func ownGroups() []string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && rest != "/" {
			return []string{filepath.Join("/sys/fs/cgroup", rest)}
		}
	}
	return nil
}

// keeper is the keeper's own state.
type keeper struct {
	plan   Plan
	log    *slog.Logger
	reaper *reaper
	groups []uint32 // of the person, beside the own one
	// secrets are those that are variables, by name; the keeper alone has them.
	secrets map[string]string

	desktop sync.Mutex // held while a password is made; taken before mu

	mu      sync.Mutex
	state   State
	ending  bool
	watches []chan struct{} // of links, woken by a new state
	conns   map[int]bool    // pids of sshd processes for one connection each
	warned  int64           // number of the last warning
	lab     *lab
	votes   votes
	made    chan struct{} // closed when no step is made any more
	ended   chan struct{}
	heard   chan struct{} // has something once a link has heard of the end, and is gone
}

// keep is the keeper's life.
func keep(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, insideFile))
	if err != nil {
		return err
	}
	k := &keeper{log: slog.New(slog.NewTextHandler(os.Stderr, nil)), conns: map[int]bool{}}
	k.made, k.ended, k.heard = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	if err := json.Unmarshal(text, &k.plan); err != nil {
		return err
	}
	unix.CloseOnExec(lockFD)
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if !k.plan.Own { // nobody but the account has a session then, and the instance finds it by its variables
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	// It ends when it is told to, and by nothing else. Caught and dropped: what is ignored
	// would be ignored by all that it starts.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	control, err := listenAt(filepath.Join(k.plan.Run, controlFile))
	if err != nil {
		return err
	}
	k.reaper = newReaper()
	go k.accept(control)
	made := k.makeAll()
	close(k.made)
	k.mu.Lock()
	ending := k.ending
	k.mu.Unlock()
	if !made && !ending {
		k.linger()
		return nil
	}
	if made {
		go k.countVotes()
	}
	<-k.ended
	k.linger()
	return nil
}

// lingerFor is how long a keeper that has ended still says so, unless somebody has heard it:
// whoever starts it connects right after.
const lingerFor = 3 * time.Second

func (k *keeper) linger() {
	select {
	case <-k.heard:
	case <-time.After(lingerFor):
	}
}

// step is something that a session needs. Each can be made again, and changes nothing that
// is right already.
type step struct {
	name string
	make func() error
	node bool // that it fails is the node's fault
	own  bool // also a session of the keeper's own account has it: nothing of the home is changed then
}

// makeAll makes what the session needs, step by step.
func (k *keeper) makeAll() bool {
	for _, s := range []step{
		{name: "view", make: func() error {
			if k.plan.ViewFault != "" {
				return errors.New(k.plan.ViewFault)
			}
			return nil
		}, node: true},
		{name: "account", make: k.makeAccount, node: true},
		{name: "home", make: k.makeHome, node: true},
		{name: "share", make: k.makeShareFolder, node: true, own: true},
		{name: "links", make: k.linkShare},
		{name: "greeting", make: k.greet},
		{name: "sudo", make: k.allowSudo, own: true},
		{name: "secrets", make: k.readSecrets, node: true, own: true},
		{name: "lab", make: k.startLab, own: true},
		{name: "sshd", make: k.serveSSH, node: true, own: true},
	} {
		if k.plan.Own && !s.own {
			continue
		}
		if !k.change(func(st *State) { st.Step = s.name }) {
			return false
		}
		if err := s.make(); err != nil {
			k.log.Error("making the session has failed", "step", s.name, "error", err.Error())
			k.change(func(st *State) { st.Failure, st.Node = err.Error(), s.node })
			return false
		}
	}
	return k.change(func(st *State) { st.Step, st.Ready = "", true })
}

// change changes the state and says so to all links. False = the session ends.
func (k *keeper) change(how func(*State)) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	how(&k.state)
	for _, w := range k.watches {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return !k.ending
}

// listenAt listens at a socket that root alone reaches.
func listenAt(path string) (*net.UnixListener, error) {
	os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// accept serves the links.
func (k *keeper) accept(control *net.UnixListener) {
	for {
		c, err := control.AcceptUnix()
		if err != nil {
			return
		}
		go k.serveLink(c)
	}
}

// serveLink says how things are, and takes orders.
func (k *keeper) serveLink(c *net.UnixConn) {
	defer c.Close()
	watch := make(chan struct{}, 1)
	watch <- struct{}{}
	k.mu.Lock()
	k.watches = append(k.watches, watch)
	k.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		in := bufio.NewScanner(c)
		in.Buffer(nil, maxStateLine)
		for in.Scan() {
			var o order
			if json.Unmarshal(in.Bytes(), &o) == nil {
				k.obey(o)
			}
		}
	}()
	defer func() {
		k.mu.Lock()
		k.watches = slices.DeleteFunc(k.watches, func(w chan struct{}) bool { return w == watch })
		k.mu.Unlock()
	}()
	over := false
	for {
		select {
		case <-watch:
		case <-gone:
			if over {
				select {
				case k.heard <- struct{}{}:
				default:
				}
			}
			return
		}
		k.mu.Lock()
		line, err := json.Marshal(k.state)
		over = k.state.Ended || k.state.Failure != ""
		k.mu.Unlock()
		if err != nil {
			return
		}
		c.SetWriteDeadline(time.Now().Add(talkWithin))
		if _, err := c.Write(append(line, '\n')); err != nil {
			return
		}
	}
}

// obey does what the agent asks.
func (k *keeper) obey(o order) {
	switch {
	case o.Warn != nil:
		k.warn(*o.Warn)
	case o.Desktop != nil:
		go k.makeDesktop(o.Desktop.SealTo)
	case o.End != nil:
		k.end(*o.End)
	}
}
