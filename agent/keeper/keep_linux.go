package keeper

import (
	"encoding/binary"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is the keeper's name among processes, and what makes a program play it.
const program = "dsvm-keeper"

// Numbers of the keeper's open files.
const (
	socketFD = 3
	lockFD   = 4 // held while the keeper lives: see Await
)

// init plays the keeper before anything else of the program is set up, so that a
// keeper has little memory of its own.
func init() {
	if len(os.Args) > 0 && os.Args[0] == program {
		runtime.LockOSThread() // what it starts dies with this thread, and so with the keeper
		os.Exit(keep())
	}
}

// Bounds of ending what an attempt has left.
const (
	emptyWithin = 5 * time.Second      // then the agent learns that something is left; the keeper goes on
	pause       = 2 * time.Millisecond // between two looks at whether what was killed is gone
	slowPause   = time.Second          // the same after that
	stopRounds  = 100                  // of stopping before all that was seen is killed
)

// place is the keeper's own state.
type place struct {
	conn *net.UnixConn
	self int
	ran  chan struct{} // something was started

	sending sync.Mutex
	mu      sync.Mutex
	leader  int // the attempt's first process until it is reaped; 0 = none
}

// keep is the keeper's life. It returns the exit code, with nothing left below.
func keep() int {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	for _, fd := range []int{socketFD, lockFD} {
		unix.CloseOnExec(fd)
	}
	// The agent decides when to end. Caught and dropped: a signal that is ignored
	// would be ignored by the attempts as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	c, err := conn(socketFD)
	if err != nil {
		return 1
	}
	p := &place{conn: c, self: os.Getpid(), ran: make(chan struct{}, 1)}
	go p.reap()
	for {
		kind, body, rights, err := receive(c)
		if err != nil {
			p.empty(time.Time{}, pause) // the agent is gone: so is everything else
			return 0
		}
		p.handle(kind, body, rights)
	}
}

func (p *place) handle(kind byte, body []byte, rights []int) {
	switch kind {
	case kindStart:
		pid, errno := p.start(body, rights)
		p.sendNumbers(kindPID, uint64(pid), uint64(errno))
		if pid > 0 {
			p.ran <- struct{}{}
		}
	case kindSignal:
		if len(body) != 2 {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.leader == 0:
		case body[1] == 1:
			unix.Kill(p.leader, syscall.Signal(body[0]))
		default:
			unix.Kill(-p.leader, syscall.Signal(body[0]))
		}
	case kindKill:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.leader != 0 {
			unix.Kill(-p.leader, syscall.SIGKILL) // the rest follows when it has ended
		}
	}
}

// start starts an attempt.
func (p *place) start(body []byte, rights []int) (pid int, errno syscall.Errno) {
	defer func() {
		for _, fd := range rights {
			unix.Close(fd)
		}
	}()
	argv0, argv, attr, err := decode(body)
	if err != nil || len(rights) != files {
		return 0, syscall.EINVAL
	}
	for _, fd := range rights {
		unix.CloseOnExec(fd)
		attr.Files = append(attr.Files, uintptr(fd))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err = syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		var ok bool
		if errno, ok = err.(syscall.Errno); !ok {
			errno = syscall.EINVAL
		}
		return 0, errno
	}
	p.leader = pid
	return pid, 0
}

// sendNumbers sends numbers to the agent. An agent that is gone is noticed elsewhere.
func (p *place) sendNumbers(kind byte, numbers ...uint64) {
	var body []byte
	for _, n := range numbers {
		body = binary.BigEndian.AppendUint64(body, n)
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	send(p.conn, kind, body)
}

// reap takes in whatever ends, an attempt at a time.
func (p *place) reap() {
	for range p.ran {
		status, at := p.awaitLeader()
		clean := uint64(0)
		if p.empty(time.Now().Add(emptyWithin), pause) {
			clean = 1
		}
		p.sendNumbers(kindEnded, uint64(status), uint64(at.UnixNano()), clean)
		if clean == 0 {
			p.empty(time.Time{}, slowPause)
			p.sendNumbers(kindEmpty)
		}
	}
}

// awaitLeader reaps until the attempt's first process has ended.
func (p *place) awaitLeader() (syscall.WaitStatus, time.Time) {
	for {
		// Looked at before it is reaped, so that its number is its own until
		// nobody can signal it any more.
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil); err == unix.EINTR {
			continue
		}
		var status syscall.WaitStatus
		p.mu.Lock()
		pid, _ := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		over := pid == p.leader
		if over {
			p.leader = 0
		}
		p.mu.Unlock()
		if over {
			return status, time.Now()
		}
	}
}

// empty kills until nothing is left below the keeper, and says whether that is so.
// The time may be zero: without end.
func (p *place) empty(until time.Time, between time.Duration) bool {
	for {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.ECHILD {
				return true
			}
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
		p.kill()
		if !until.IsZero() && time.Now().After(until) {
			return false
		}
		time.Sleep(between)
	}
}

// kill stops everything before it kills anything: a process that is stopped starts
// no other, so that nothing slips out in between.
func (p *place) kill() {
	stopped := map[int]bool{}
	for range stopRounds {
		fresh := false
		for _, pid := range descendants(p.self) {
			if !stopped[pid] && unix.Kill(pid, syscall.SIGSTOP) == nil {
				stopped[pid], fresh = true, true
			}
		}
		if !fresh {
			break
		}
	}
	for pid := range stopped {
		unix.Kill(pid, syscall.SIGKILL)
	}
}
