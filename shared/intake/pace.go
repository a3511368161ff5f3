// Package intake bounds what the bodies of HTTP requests cost a server: how long
// they may take to arrive, and how much memory all of them may hold together. It
// also bounds the connections that say nothing. It knows nothing of what is in them.
package intake

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// Pace is how fast a body must come. Zero values do not bound.
type Pace struct {
	Bytes  int64         // at least so many
	Within time.Duration // in so long a time, again and again
	Total  time.Duration // and all of it in this time
}

// Usual is the pace of every body: far slower than any network that is of use,
// and faster than somebody who wants to hold a connection for ever.
var Usual = Pace{Bytes: 16 << 10, Within: 30 * time.Second}

// ErrSlow ends the reading of a body that came too slowly.
var ErrSlow = errors.New("the body came too slowly; send it again over a faster connection")

// Keep returns r with a body that comes at a pace: a Read of it fails with ErrSlow
// when it does not. Time begins now, and also counts for a body that nobody reads,
// so that the server does not wait for its rest. An earlier pace is
// replaced. The server's own request stays as it is: by its body it sees whether a
// client must be given time to read the answer.
func Keep(w http.ResponseWriter, r *http.Request, pace Pace) *http.Request {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return r
	}
	inner := r.Body
	if earlier, ok := inner.(*paced); ok {
		inner = earlier.ReadCloser
	}
	p := &paced{ReadCloser: inner, connection: http.NewResponseController(w), pace: pace, begin: time.Now()}
	p.window = p.begin
	p.extend()
	kept := *r
	kept.Body = p
	return &kept
}

// paced is a body that is read at a pace. The deadline stands in the connection,
// since nothing else wakes a Read.
type paced struct {
	io.ReadCloser
	connection *http.ResponseController
	pace       Pace

	begin, window time.Time
	got           int64 // in this window
	err           error // it has ended with
}

// extend sets the deadline of the next bytes.
func (p *paced) extend() {
	var until time.Time
	if p.pace.Within > 0 {
		until = p.window.Add(p.pace.Within)
	}
	if p.pace.Total > 0 {
		if all := p.begin.Add(p.pace.Total); until.IsZero() || all.Before(until) {
			until = all
		}
	}
	_ = p.connection.SetReadDeadline(until) // a server without deadlines has no connections either: it is a test's
}

func (p *paced) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.ReadCloser.Read(b)
	p.got += int64(n)
	switch {
	case err == nil:
		if p.got >= p.pace.Bytes {
			p.got, p.window = 0, time.Now()
			p.extend()
		}
	case errors.Is(err, io.EOF):
		_ = p.connection.SetReadDeadline(time.Time{}) // the server listens on for the client's end
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrSlow
	}
	p.err = err
	return n, err
}
