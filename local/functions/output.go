package functions

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	// maxLine bounds a line, in bytes. A longer one is broken.
	maxLine = 64 << 10
	// quotedLines is how many lines of standard error the message about an exit quotes.
	quotedLines = 3
)

// output passes on the output of the handler, line by line, and keeps the last lines of
// standard error.
type output struct {
	mu      sync.Mutex
	w       io.Writer
	streams []*stream
	tail    []string
}

// stream is one of the handler's two outputs.
type stream struct {
	out      *output
	isErrors bool
	rest     []byte // of a line that has not ended
}

func (o *output) stream(isErrors bool) *stream {
	s := &stream{out: o, isErrors: isErrors}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams = append(o.streams, s)
	return s
}

// Write never fails: a log that cannot be written must not stop the handler.
func (s *stream) Write(b []byte) (int, error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.rest = append(s.rest, b...)
	for {
		i := bytes.IndexByte(s.rest, '\n')
		switch {
		case i >= 0:
			s.line(s.rest[:i+1])
			s.rest = s.rest[i+1:]
		case len(s.rest) >= maxLine:
			s.line(append(s.rest[:maxLine:maxLine], '\n'))
			s.rest = s.rest[maxLine:]
		default:
			return len(b), nil
		}
	}
}

func (s *stream) line(b []byte) {
	_, _ = s.out.w.Write(b)
	if s.isErrors {
		s.out.tail = append(s.out.tail, strings.TrimSpace(string(b)))
		s.out.tail = s.out.tail[max(0, len(s.out.tail)-quotedLines):]
	}
}

// flush passes on last lines without an end of line, after the process has ended.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		if len(s.rest) > 0 {
			s.line(append(s.rest, '\n'))
		}
	}
	o.streams = nil
}

// quote returns the last lines of standard error, for the message about an exit.
func (o *output) quote() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.tail) == 0 {
		return ""
	}
	last := strings.Join(o.tail, " | ")
	o.tail = nil
	return "; it said last: " + last
}
