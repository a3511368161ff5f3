package intake

import (
	"context"
	"errors"
	"io"
	"time"
)

// Size is one size of buffers, and how many of them there are.
type Size struct{ Bytes, Count int }

// Room is the memory in which bodies may be at once. Its buffers are made when
// they are first needed and are used again, so that what a flood of bodies holds
// never exceeds them: no collector has to keep up.
//
// A body begins in the smallest buffer and moves to a larger one when that is full.
// Only bytes that have arrived count, not the announced length: a sender must send
// much to hold a large buffer. A body never waits for a smaller buffer than it holds,
// so there is no deadlock.
type Room struct {
	sizes   []Size
	buffers []chan []byte // of each size, as many as there may be; nil = not made yet
	wait    time.Duration
}

// NewRoom returns a room with these sizes, the smallest first. Wait is how long a
// body may wait for each of its buffers.
func NewRoom(wait time.Duration, sizes ...Size) *Room {
	r := &Room{sizes: sizes, wait: wait}
	for _, s := range sizes {
		c := make(chan []byte, s.Count)
		for range s.Count {
			c <- nil
		}
		r.buffers = append(r.buffers, c)
	}
	return r
}

// Errors of Read.
var (
	ErrFull     = errors.New("too many bodies are being read; send it again in a moment")
	ErrTooLarge = errors.New("the body is too large")
)

// Wait is how long a body waits for room; a refused sender may come again after
// that.
func (r *Room) Wait() time.Duration { return r.wait }

// Body is a body that was read whole.
type Body struct {
	Bytes []byte // good until Release
	room  *Room
	size  int
	whole []byte
}

// Release gives the memory back. Nothing may refer to Bytes any more.
func (b *Body) Release() {
	if b.whole != nil {
		b.room.buffers[b.size] <- b.whole[:0]
		b.whole, b.Bytes = nil, nil
	}
}

// Read reads all of a body into the room. ErrTooLarge comes as soon as it is longer
// than limit or than the largest buffer, ErrFull when there was no room for too
// long; all other errors are the body's own.
func (r *Room) Read(ctx context.Context, from io.Reader, limit int) (_ *Body, err error) {
	b := &Body{room: r}
	if b.whole, err = r.take(ctx, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Release()
		}
	}()
	limit = min(limit, r.sizes[len(r.sizes)-1].Bytes)
	for {
		if len(b.whole) == cap(b.whole) && len(b.whole) <= limit && b.size+1 < len(r.sizes) {
			if err := b.grow(ctx); err != nil {
				return nil, err
			}
		}
		n, err := from.Read(b.whole[len(b.whole):cap(b.whole)])
		b.whole = b.whole[:len(b.whole)+n]
		switch {
		case len(b.whole) > limit:
			return nil, ErrTooLarge
		case errors.Is(err, io.EOF):
			b.Bytes = b.whole
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// grow moves the body to a buffer of the next size.
func (b *Body) grow(ctx context.Context) error {
	next, err := b.room.take(ctx, b.size+1)
	if err != nil {
		return err
	}
	next = append(next, b.whole...)
	b.Release()
	b.whole, b.size = next, b.size+1
	return nil
}

// take waits for a buffer of a size.
func (r *Room) take(ctx context.Context, size int) ([]byte, error) {
	late := time.NewTimer(r.wait)
	defer late.Stop()
	select {
	case buffer := <-r.buffers[size]:
		if buffer == nil {
			// One byte more than a body has, so that its end is seen.
			buffer = make([]byte, 0, r.sizes[size].Bytes+1)
		}
		return buffer[:0], nil
	case <-late.C:
		return nil, ErrFull
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
