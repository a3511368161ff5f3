//go:build unix

package agent

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dsvmpools/agent/entrance"
	"dsvmpools/agent/process"
)

// guests are the programs that people run in an attempt beside its own process: as its user, with
// its environment, in its working directory, and bounded and ended with it.
type guests struct {
	key   string        // of the attempt, by which its processes are found
	ended chan struct{} // closed when the attempt has ended, before they are

	mu   sync.Mutex
	all  map[*guest]bool // of which something is there
	left bool            // something of one that is known no more may be left
}

// guest is one of them.
type guest struct {
	signal func(syscall.Signal) // harmless once it has ended
	end    func()               // ends it and what it has started
	code   int
	done   chan struct{} // closed when it has ended, after code is set
	gone   chan struct{} // closed when all that it has started has ended, too; nil = of an operator
}

// Wait waits for the end of the program; see entrance.Process.
func (g *guest) Wait() int {
	<-g.done
	return g.code
}

// Signal signals it.
func (g *guest) Signal(s syscall.Signal) { g.signal(s) }

var errAttemptEnded = errors.New("the job does not run on this node any more")

// receive makes room for guests, while the attempt runs.
func (r *run) receive() (*guests, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.pid == 0 {
		return nil, errAttemptEnded
	}
	if r.guests == nil {
		r.guests = &guests{key: r.key, ended: make(chan struct{}), all: map[*guest]bool{}}
	}
	return r.guests, nil
}

// guestsWithin is how long the end of guests may take. What cannot be ended keeps the slot from
// being used again.
const guestsWithin = 5 * time.Second

// endGuests ends what people still run in an attempt that has ended. What is there after so long
// keeps the slot from being used again.
func (r *run) endGuests(within time.Duration) {
	r.mu.Lock()
	all := r.guests
	r.mu.Unlock()
	if all == nil {
		return
	}
	all.mu.Lock()
	left := slices.Collect(maps.Keys(all.all))
	all.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), within)
	defer stop()
	for _, g := range left {
		g.end()
	}
	for _, g := range left {
		select {
		case <-g.gone:
		case <-ctx.Done():
		}
	}
	if !all.areGone() {
		r.slot.bare, r.slot.guests = false, all
	}
}

// areGone reports whether nothing of them is left. What may be left of one whose keeper is gone, since
// the kernel has killed that for want of memory, is ended by the attempt's key.
func (all *guests) areGone() bool {
	if all == nil {
		return true
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.left {
		all.left = !process.KillAttempt(all.key)
	}
	return len(all.all) == 0 && !all.left
}

// inside is an attempt as people come in to it.
type inside struct {
	run    *run
	slots  *slots
	guests *guests
}

// Ended is closed when the attempt has ended.
func (in *inside) Ended() <-chan struct{} { return in.guests.ended }

// Dial connects to a port of this machine as the attempt's user.
func (in *inside) Dial(port int) (net.Conn, error) {
	select {
	case <-in.guests.ended:
		return nil, errAttemptEnded
	default:
		return dialAs(in.run.as, port)
	}
}

// shells are what people get, the first one that the node has.
var shells = []string{"/bin/bash", "/usr/bin/bash", "/bin/sh"}

func findShell() (path string) {
	for _, path = range shells {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

// inFolder is a script that runs a program in a folder, both its arguments. The process of the
// person goes there, and not the agent: a folder that hangs, which the job may have made, holds
// that process alone. If the job has removed the folder, the program begins at the root.
const inFolder = `cd "$1" 2>/dev/null; shift; exec "$@"`

// Start starts a shell or a command in the attempt.
func (in *inside) Start(c entrance.Command) (entrance.Process, error) {
	r := in.run
	env := slices.Concat(r.env, c.Env)
	attr := &syscall.ProcAttr{Dir: "/", Env: env, Sys: process.Attr(r.as)}
	for _, f := range c.Files {
		attr.Files = append(attr.Files, f.Fd())
	}
	program := []string{"/bin/sh", "-c", c.Line}
	if c.Line == "" {
		program = []string{findShell()}
	}
	if c.TTY {
		if attr.Sys.Setctty = true; r.as != nil {
			_ = c.Files[0].Chown(int(r.as.Uid), -1) // programs open it again, by its name
		}
	}
	g, err := in.startProcess("/bin/sh", append([]string{"sh", "-c", inFolder, "sh", r.dir}, program...), attr)
	if err != nil {
		return nil, errors.New("it cannot be started in the job: " + strings.TrimSpace(err.Error()))
	}
	return g, nil
}
