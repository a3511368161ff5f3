package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

const (
	// followTimeout is longer than the server follows a log in one answer, so
	// that a connection which died unnoticed does not hold a reader for ever.
	followTimeout = 240 * time.Second
	// patience is how long reading a log goes on while nothing answers: longer
	// than a server takes to be replaced.
	patience = 60 * time.Second
	// resumePause keeps a server that closes at once from being asked in a tight
	// loop.
	resumePause = 250 * time.Millisecond
	// leastCut is less than any server sends of a longer log in one answer: what
	// is shorter was all there is for now.
	leastCut = job.LeastLogHead
)

// Log names one log of a job.
type Log struct {
	Job     string
	Stream  string    // stdout | stderr
	Attempt int       // 0 = the last one
	Rank    int       // of a job on several nodes
	Tail    int       // so many of the last lines; 0 = all
	Since   time.Time // what was written since, exact to 10 s; zero = all
}

// ReadLog copies a log to out. With follow it goes on until the attempt is over
// and its log is read to the end; it resumes where it was when an answer ends
// before that, whatever the reason. It returns when ctx ends, with its error.
func (c *Client) ReadLog(ctx context.Context, l Log, follow bool, out io.Writer) error {
	var offset int64
	lastGood := time.Now()
	for {
		begin, n, ended, err := c.readOnce(ctx, l, offset, follow, out)
		// What was written since a time may begin just before a part that was cut out.
		short := n == 0 || n < leastCut && l.Since.IsZero()
		if n > 0 || err == nil {
			offset, l.Tail, l.Since = begin+n, 0, time.Time{} // where they begin was found
		}
		var stop *outputError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return ctx.Err()
		case ended:
			return nil
		case err == nil && !follow && short:
			return nil
		case err == nil || n > 0:
			lastGood = time.Now()
		case !passing(err) || time.Since(lastGood) > patience:
			return err
		}
		if err == nil && n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(resumePause):
		}
	}
}

// passing reports whether an error in the middle of a log may pass.
func passing(err error) bool {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Code == fault.Internal || f.Code == fault.Throttled
	}
	var denied *Denied
	return !errors.As(err, &denied)
}

// outputError says that it was the reader's side that failed.
type outputError struct{ err error }

func (e *outputError) Error() string { return e.err.Error() }

// readOnce copies one answer. It returns the offset at which the answer begins, and
// whether nothing can follow.
func (c *Client) readOnce(
	ctx context.Context,
	l Log,
	offset int64,
	follow bool,
	out io.Writer,
) (begin, n int64, ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	query := url.Values{}
	if l.Attempt > 0 {
		query.Set("attempt", strconv.Itoa(l.Attempt))
	}
	if l.Rank > 0 {
		query.Set("rank", strconv.Itoa(l.Rank))
	}
	if l.Tail > 0 {
		query.Set("tail", strconv.Itoa(l.Tail))
	}
	if !l.Since.IsZero() {
		query.Set("since", timeText(l.Since))
	}
	if l.Tail == 0 && l.Since.IsZero() && offset > 0 {
		query.Set("offset", strconv.FormatInt(offset, 10))
	}
	if follow {
		query.Set("follow", "true")
	}
	response, err := c.send(ctx, request{method: "GET", path: jobPath(l.Job) + "/logs/" + l.Stream, query: query})
	if err != nil {
		return offset, 0, false, err
	}
	defer response.Body.Close()
	begin = offset
	if at, err := strconv.ParseInt(response.Header.Get(wire.LogOffsetHeader), 10, 64); err == nil && at >= 0 {
		begin = at
	}
	n, err = io.Copy(writer{out}, response.Body)
	if err != nil {
		return begin, n, false, fmt.Errorf("the log broke off: %w", err)
	}
	return begin, n, response.Header.Get(wire.LogEndHeader) == "true", nil
}

// writer marks the errors of the side that is written to.
type writer struct{ out io.Writer }

func (w writer) Write(b []byte) (int, error) {
	n, err := w.out.Write(b)
	if err != nil {
		err = &outputError{err}
	}
	return n, err
}
