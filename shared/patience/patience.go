// Package patience bounds calls that may block in the kernel and that nobody
// can end: a share over the network that does not answer holds whoever opens a
// file on it. Such a call is made in a goroutine of its own. When its time is up
// the caller goes on, and the call is left to itself: it ends when the kernel
// lets it, and what it brings is handed to be put away. The package does not
// try a call again.
package patience

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrTooLong is a call that was left to itself, and ErrTooMany one that was not
// made, since as many as may be have been left to themselves.
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

// Left is how many calls were left to themselves and have not ended.
func (c *Calls) Left() int { return int(c.left.Load()) }

// Do makes a call and returns what it brings, or an error that is ErrTooLong or
// ErrTooMany when it does not end in time. Waiting for a turn counts. Late, if
// not nil, gets what a call brings that was left to itself and worked after all.
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
