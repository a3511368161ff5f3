package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper is the agent's end.
type Keeper struct {
	conn    *net.UnixConn
	started chan [2]uint64
	ended   chan Ended
	gone    chan struct{} // the keeper has ended

	sending sync.Mutex
	mu      sync.Mutex
	empty   bool
}

// Ended says how an attempt's first process ended.
type Ended struct {
	Status syscall.WaitStatus
	At     time.Time
	Empty  bool // nothing of the attempt is left
}

// ErrGone is what a keeper that has ended leaves: somebody has killed it.
var ErrGone = errors.New("the process that keeps the attempts of this place was killed")

// Start starts a keeper as the caller's user, with the attributes of the calling
// thread. What it keeps dies when this process does, however it ends. Lock is held
// open by the keeper as long as it lives, nil = none; see Await.
func Start(name string, lock *os.File) (*Keeper, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("a pair of sockets cannot be made: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "keeper")
	defer theirs.Close()
	ours, err := conn(pair[0])
	if err != nil {
		return nil, err
	}
	// The file itself, also when another has taken its name meanwhile. The name is
	// there for people, and for anybody who looks for what is left of a node.
	cmd := exec.Cmd{Path: "/proc/self/exe", Args: []string{program}, Env: []string{"DSVM_KEEPER=" + name}, Dir: "/",
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, lock)
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("the process that keeps attempts cannot be started: %w", err)
	}
	k := &Keeper{conn: ours, started: make(chan [2]uint64, 1), ended: make(chan Ended, 1), gone: make(chan struct{}), empty: true}
	go func() {
		k.read()
		ours.Close()
		cmd.Wait()
		close(k.gone)
	}()
	return k, nil
}

// read takes in what the keeper says until it has ended.
func (k *Keeper) read() {
	for {
		kind, body, _, err := receive(k.conn)
		if err != nil {
			return
		}
		var n [3]uint64
		for i := 0; len(body) >= 8 && i < len(n); i++ {
			n[i], body = binary.BigEndian.Uint64(body), body[8:]
		}
		switch kind {
		case kindPID:
			k.started <- [2]uint64{n[0], n[1]}
		case kindEnded:
			k.isEmpty(n[2] == 1)
			k.ended <- Ended{syscall.WaitStatus(n[0]), time.Unix(0, int64(n[1])), n[2] == 1}
		case kindEmpty:
			k.isEmpty(true)
		}
	}
}

func (k *Keeper) isEmpty(is bool) {
	k.mu.Lock()
	k.empty = is
	k.mu.Unlock()
}

// Launch starts an attempt; there is none when it is called. Errors of the system
// are syscall.Errno.
func (k *Keeper) Launch(argv0 string, argv []string, attr *syscall.ProcAttr) (int, error) {
	body := encode(argv0, argv, attr)
	if len(body) > maxBody {
		return 0, syscall.E2BIG
	}
	fds := make([]int, len(attr.Files))
	for i, f := range attr.Files {
		fds[i] = int(f)
	}
	if err := k.send(kindStart, body, fds...); err != nil {
		return 0, ErrGone
	}
	select {
	case got := <-k.started:
		if got[0] == 0 {
			return 0, syscall.Errno(got[1])
		}
		k.isEmpty(false)
		return int(got[0]), nil
	case <-k.gone:
		return 0, ErrGone
	}
}

func (k *Keeper) send(kind byte, body []byte, rights ...int) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	return send(k.conn, kind, body, rights...)
}

// Signal signals the attempt's first process, alone or with its group. Without an
// attempt it does nothing.
func (k *Keeper) Signal(s syscall.Signal, alone bool) {
	body := []byte{byte(s), 0}
	if alone {
		body[1] = 1
	}
	k.send(kindSignal, body)
}

// Kill ends the attempt, with everything that belongs to it.
func (k *Keeper) Kill() { k.send(kindKill, nil) }

// Wait returns when the attempt has ended and nothing of it is left, or something
// cannot be ended. False: the keeper was killed, so that nobody knows.
func (k *Keeper) Wait() (Ended, bool) {
	select {
	case e := <-k.ended:
		return e, true
	case <-k.gone:
		select {
		case e := <-k.ended: // said before it ended
			return e, true
		default:
			return Ended{}, false
		}
	}
}

// Empty reports whether nothing is left below the keeper.
func (k *Keeper) Empty() bool {
	select {
	case <-k.gone:
		return false // nobody knows
	default:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.empty
}

// Gone reports whether the keeper has ended.
func (k *Keeper) Gone() bool {
	select {
	case <-k.gone:
		return true
	default:
		return false
	}
}

// Close ends the keeper, and everything below it. What cannot be ended keeps its
// keeper, and the lock with it.
func (k *Keeper) Close() {
	k.conn.CloseWrite()
	select {
	case <-k.gone:
	case <-time.After(emptyWithin):
	}
}

// AwaitEnd returns when the keeper has ended, which may be never: what hangs in the kernel cannot
// be ended.
func (k *Keeper) AwaitEnd() { <-k.gone }

// lockPause is between two looks at whether another's keepers have ended.
const lockPause = 10 * time.Millisecond

// Await opens the lock that the keepers of an agent hold, and waits for those of an
// earlier one to end: each of them ends when nothing is left below it. Without them
// the lock is the caller's, for Start; it is false that nothing is left when the
// time is over.
func Await(path string, within time.Duration) (lock *os.File, alone bool, err error) {
	if lock, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, false, err
	}
	for end := time.Now().Add(within); ; time.Sleep(lockPause) {
		if IsAlone(lock) {
			return lock, true, nil
		}
		if time.Now().After(end) {
			return lock, false, nil
		}
	}
}

// IsAlone takes the lock if nobody else's keepers hold it.
func IsAlone(lock *os.File) bool {
	return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
