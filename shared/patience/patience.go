// Package patience bounds calls that may block in the kernel and that nobody can end:
// opening a file on a network share that does not answer, for example. The agent and
// the HTTP API use it for the share. It makes such a call in a goroutine of its own.
// When the time is over the caller goes on without the call, which ends when the kernel
// lets it; its late result goes to a function that cleans up. The package never tries
// a call again. Wait waits for a time that a caller has computed.
package patience

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrTooLong is a call that did not end in time. ErrTooMany is a call that was not
// made, since too many earlier ones still hang.
var (
	ErrTooLong = errors.New("it does not answer")
	ErrTooMany = errors.New("it does not answer, and too many calls to it hang already")
)

// Calls keeps count of calls under way. Its methods may be called concurrently.
type Calls struct {
	turn chan struct{}
	left atomic.Int64
}

// New allows so many calls at once. Each that hangs holds a thread of the system.
func New(most int) *Calls { return &Calls{turn: make(chan struct{}, most)} }

// Left is the number of calls that nobody waits for any more and that have not ended.
func (c *Calls) Left() int { return int(c.left.Load()) }

// Do makes a call and returns its result, or an error that is ErrTooLong or ErrTooMany
// when the call does not end in time. Waiting for a turn counts. late, if not nil, gets
// the result of a call that works too late.
func Do[T any](c *Calls, within time.Duration, call func() (T, error), late func(T)) (T, error) {
	var none T
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case c.turn <- struct{}{}:
	default:
		select {
		case c.turn <- struct{}{}:
		case <-timer.C:
			return none, fmt.Errorf("%w (%d)", ErrTooMany, c.Left())
		}
	}
	type answer struct {
		value T
		err   error
	}
	const ( // who comes first: the answer or the end of the time
		waiting = iota
		answered
		left
	)
	var state atomic.Int32
	done := make(chan answer, 1)
	go func() {
		defer func() { <-c.turn }()
		value, err := call()
		if state.CompareAndSwap(waiting, answered) {
			done <- answer{value, err}
			return
		}
		if err == nil && late != nil {
			late(value)
		}
		c.left.Add(-1)
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timer.C:
	}
	c.left.Add(1)
	if state.CompareAndSwap(waiting, left) {
		return none, fmt.Errorf("%w within %s", ErrTooLong, within)
	}
	c.left.Add(-1)
	a := <-done // it came at the last moment
	return a.value, a.err
}
