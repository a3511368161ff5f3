package invoke

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"dsvmpools/shared/intake"
)

// Limits of what is read of a body only to discard it.
const (
	maxRest  = 100 << 20        // what the host passes on at most
	restTime = 30 * time.Second // for a rest that is no longer of use; the same as a delivery has
)

// bodyRest is the body of a request, of which a function may read a part only.
//
// The host sends the whole body before it reads the answer. When the answer ends the
// connection earlier, the host's next write fails, and its client gets an empty 500 in
// place of the answer.
type bodyRest struct {
	io.ReadCloser
	touched bool  // the first read gives a client leave to send, if it waits for that
	err     error // that reading has ended with
}

// keepRest returns r with a body that discard can read to its end.
func keepRest(r *http.Request) (*http.Request, *bodyRest) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return r, nil
	}
	rest := &bodyRest{ReadCloser: r.Body}
	kept := *r // the server's own request stays as it is (see intake.Keep)
	kept.Body = rest
	return &kept, rest
}

func (b *bodyRest) Read(p []byte) (int, error) {
	b.touched = true
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.err = err
	}
	return n, err
}

// discard reads what the function has left of the body. A client that still waits for
// leave to send it gets the answer at once. A rest that is too long or too slow ends the
// connection.
func (b *bodyRest) discard(w http.ResponseWriter, r *http.Request, pace intake.Pace) {
	if b == nil || !b.touched && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		return
	}
	if b.err == nil {
		pace.Total = restTime
		_, _ = io.CopyN(io.Discard, intake.Keep(w, r, pace).Body, maxRest)
	}
	if !errors.Is(b.err, io.EOF) && !errors.Is(b.err, http.ErrBodyReadAfterClose) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // the server must not wait for it either
	}
}
