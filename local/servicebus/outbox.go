package servicebus

import (
	"net"
	"sync"
	"time"

	"dsvmpools/local/servicebus/amqp"
)

// Bounds of the bytes that wait for the socket of a client.
const (
	outboxFull = 512 << 10 // above this, deliveries wait
	outboxMax  = 16 << 20  // other frames do not wait; above this, the client is disconnected
)

// outbox holds the bytes that wait to be written to a client. One writer writes all
// of them with one system call.
type outbox struct {
	mu     sync.Mutex
	space  *sync.Cond
	buf    []byte
	wake   chan struct{}
	closed bool
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1)}
	o.space = sync.NewCond(&o.mu)
	return o
}

// frame queues a frame and never waits. It returns false if too much waits.
func (o *outbox) frame(channel uint16, performative any, payload []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return true
	}
	o.buf = amqp.AppendFrame(o.buf, amqp.FrameAMQP, channel, performative, payload)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return len(o.buf) < outboxMax
}

// wait waits until a delivery may be queued.
func (o *outbox) wait() {
	o.mu.Lock()
	for len(o.buf) >= outboxFull && !o.closed {
		o.space.Wait()
	}
	o.mu.Unlock()
}

// close makes the writer write the rest, and end.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.space.Broadcast()
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// swap takes the waiting bytes and leaves an empty buffer.
func (o *outbox) swap(empty []byte) (full []byte, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	full, o.buf = o.buf, empty
	o.space.Broadcast()
	return full, o.closed
}

// closeGrace is how long a client has to read the last frames.
const closeGrace = time.Second

// drainTo writes until the outbox is closed. It writes an empty frame whenever
// nothing was written for emptyFrameEvery.
func (o *outbox) drainTo(w net.Conn, emptyFrameEvery time.Duration) {
	tick := time.NewTicker(emptyFrameEvery)
	defer tick.Stop()
	var spare []byte
	for {
		quiet := false
		select {
		case <-o.wake:
		case <-tick.C:
			quiet = true
		}
		b, closed := o.swap(spare[:0])
		if quiet && len(b) == 0 && !closed {
			b = amqp.AppendFrame(b, amqp.FrameAMQP, 0, nil, nil)
		}
		limit := idleTimeout
		if closed {
			limit = closeGrace
		}
		var err error
		if len(b) > 0 { // over a WebSocket nothing would be an empty message, after which the SDK of Java reads for ever
			w.SetWriteDeadline(time.Now().Add(limit))
			_, err = w.Write(b)
		}
		if err != nil && !closed {
			w.Close() // the reader notices and ends the connection
			o.close()
		}
		if err != nil || closed {
			return
		}
		if spare = b; cap(spare) > 2*outboxFull {
			spare = nil
		}
	}
}
