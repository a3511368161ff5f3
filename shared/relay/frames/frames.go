// Package frames carries the messages of one WebSocket over to another: in order, each as
// what it was, text or binary, and in bounded memory however long a message is.
//
// It knows nothing of relays, of sessions, or of who may connect.
package frames

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/coder/websocket"
)

// chunk is how much of a message is in memory at a time: a message that is longer goes on
// in several frames.
const chunk = 32 << 10

// chunks are the buffers of those that copy at the moment.
var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// Tap sees the first part of each message, up to 32 KiB, and how many bytes it has. It must
// not keep the bytes.
type Tap func(kind websocket.MessageType, first []byte)

// Copy carries messages from one connection to the other until one of them ends. Bytes counts
// what was carried, as far as it has come; tap may be nil. The error is never nil: it is
// that of the connection which has ended. A message is read as fast as it can be written, so
// that a slow reader slows down the writer.
func Copy(ctx context.Context, to, from *websocket.Conn, bytes func(int), tap Tap) error {
	buffer := chunks.Get().(*[]byte)
	defer chunks.Put(buffer)
	for {
		kind, message, err := from.Reader(ctx)
		if err != nil {
			return err
		}
		if err := carry(ctx, to, kind, message, *buffer, bytes, tap); err != nil {
			return err
		}
	}
}

// carry carries one message over: in one frame, if it fits into the buffer.
func carry(ctx context.Context, to *websocket.Conn, kind websocket.MessageType, message io.Reader, buffer []byte,
	bytes func(int), tap Tap) error {
	n, err := io.ReadFull(message, buffer)
	if tap != nil && (err == nil || isEnd(err)) {
		tap(kind, buffer[:n])
	}
	if isEnd(err) {
		bytes(n)
		return to.Write(ctx, kind, buffer[:n])
	}
	if err != nil {
		return err
	}
	out, err := to.Writer(ctx, kind)
	if err != nil {
		return err
	}
	for {
		if _, err := out.Write(buffer[:n]); err != nil {
			return err
		}
		bytes(n)
		if n, err = message.Read(buffer); n == 0 && errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}

// isEnd reports whether a message has ended before the buffer was full.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// Reason cuts a text to what a closing frame can hold.
func Reason(text string) string {
	const most = 123
	if len(text) > most {
		text = text[:most]
	}
	return text
}
