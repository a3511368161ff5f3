package servicebus

import (
	"net"
	"testing"
	"time"
)

// writes is a connection that keeps the length of each write.
type writes struct {
	net.Conn
	lengths []int
}

func (w *writes) SetWriteDeadline(time.Time) error { return nil }

func (w *writes) Write(b []byte) (int, error) {
	w.lengths = append(w.lengths, len(b))
	return len(b), nil
}

// TestOutboxWritesNothingEmpty wakes the writer after its frame is taken: over a WebSocket an
// empty write would be an empty message, which not every client reads.
func TestOutboxWritesNothingEmpty(t *testing.T) {
	t.Parallel()
	o := newOutbox()
	o.frame(0, nil, nil)
	o.swap(nil) // as the writer does that an earlier frame has woken
	o.close()
	w := &writes{}
	o.drainTo(w, time.Hour)
	if len(w.lengths) != 0 {
		t.Errorf("got writes of %v bytes, want none", w.lengths)
	}
}
