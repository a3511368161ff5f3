package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

// Signals are the signals that ask this process to end. The first one ends the context
// of Listen. A later one ends the process, so that nothing can make it stay, unless a
// command holds the signals.
type Signals struct {
	end    context.CancelFunc
	ignore func() // the process does not listen any more

	mu    sync.Mutex
	first os.Signal      // nil = none has come
	more  chan os.Signal // those after the first, for the command that holds them; nil = nobody does
}

// mostSignals is how many signals wait for the command that holds them.
const mostSignals = 8

// Listen makes a context that ends with the first signal. A signal that the parent
// process has this one ignore, as nohup does, stays ignored.
func Listen(parent context.Context) (context.Context, *Signals) {
	ctx, end := context.WithCancel(parent)
	came := make(chan os.Signal, mostSignals)
	s := &Signals{end: end, ignore: func() { signal.Stop(came) }}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(came, sig)
		}
	}
	go func() {
		for sig := range came {
			s.deliver(sig)
		}
	}()
	return ctx, s
}

// deliver takes in a signal.
func (s *Signals) deliver(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.first == nil:
		s.first = sig
		if s.more == nil {
			s.ignore()
		}
		s.end()
	case s.more != nil:
		select {
		case s.more <- sig:
		default:
		}
	}
}

// hold gives the signals after the first one to the caller, until it releases them. While
// they are held, writing to a closed pipe is an error and does not end the process.
func (s *Signals) hold() (more <-chan os.Signal, release func()) {
	if s == nil {
		return nil, func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more = make(chan os.Signal, mostSignals)
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return s.more, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more = nil
		signal.Stop(pipes)
		if s.first != nil {
			s.ignore()
		}
	}
}

// hasHungUp reports whether the terminal was closed, so that nobody reads what is written.
func (s *Signals) hasHungUp() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first == syscall.SIGHUP
}

// Errors of Windows for a pipe that nobody reads.
const (
	windowsBrokenPipe = syscall.Errno(109)
	windowsNoData     = syscall.Errno(232)
)

// outputError is an error of writing what a job has written.
type outputError struct{ err error }

func (e *outputError) Error() string { return "the output cannot be written: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// isClosed reports whether an error of writing says that nobody reads any more: the
// other end of the pipe, or the terminal, was closed.
func isClosed(err error) bool {
	var failed *outputError
	var n syscall.Errno
	if !errors.As(err, &failed) || !errors.As(failed.err, &n) {
		return false
	}
	return n == syscall.EPIPE || n == syscall.EIO || runtime.GOOS == "windows" && (n == windowsBrokenPipe || n == windowsNoData)
}
