package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

const (
	// shownLines is how many of the last lines of a failed job are shown: a trace of calls
	// with its message.
	shownLines = 20
	// shownBytes bounds the last lines of one job.
	shownBytes = 8 << 10
)

// lastLines are the last lines of a job that did not succeed.
type lastLines struct {
	stream  string // "" = it has written none
	attempt int
	rank    int
	text    string
	err     error // why they cannot be read
}

// readLastLines reads the last lines of the last attempt of a job that has failed, of
// the first stream that has any: what went wrong is mostly on standard error.
func readLastLines(ctx context.Context, s *session, j wire.Job, lines int) lastLines {
	if len(j.Attempts) == 0 || j.State != job.Failed && j.State != job.TimedOut {
		return lastLines{}
	}
	last := j.Attempts[len(j.Attempts)-1]
	found := lastLines{attempt: last.Number}
	for _, r := range last.Ranks {
		if r.State == job.AttemptFailed || r.State == job.AttemptTimedOut {
			found.rank = r.Rank
			break
		}
	}
	for _, stream := range []string{"stderr", "stdout"} {
		var end endWriter
		err := s.ReadLog(ctx, client.Log{Job: j.ID, Stream: stream, Attempt: found.attempt, Rank: found.rank, Tail: lines}, false, &end)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
		case err != nil:
			found.err = err
			return found
		case strings.TrimSpace(string(end.text)) != "":
			found.stream, found.text = stream, string(end.text)
			return found
		}
	}
	return found
}

// endWriter keeps the last shownBytes of what is written to it.
type endWriter struct{ text []byte }

func (w *endWriter) Write(b []byte) (int, error) {
	w.text = append(w.text, b...)
	if over := len(w.text) - shownBytes; over > 0 {
		w.text = append(w.text[:0], w.text[over:]...)
	}
	return len(b), nil
}

// write writes the lines with a heading, without what could move a cursor.
func (l lastLines) write(out io.Writer, indent string) error {
	var text strings.Builder
	switch {
	case l.err != nil:
		fmt.Fprintf(&text, "%slast lines cannot be read: %s\n", indent, plain(message(l.err)))
	case l.stream != "":
		rank := ""
		if l.rank > 0 {
			rank = fmt.Sprintf(" of rank %d", l.rank)
		}
		fmt.Fprintf(&text, "%slast lines of %s%s in attempt %d\n", indent, l.stream, rank, l.attempt)
		for line := range strings.Lines(strings.ToValidUTF8(l.text, "\ufffd")) {
			if at := strings.LastIndexByte(strings.TrimRight(line, "\r\n"), '\r'); at >= 0 {
				line = line[at+1:] // what a progress bar has left on the screen
			}
			fmt.Fprintf(&text, "%s  %s\n", indent, strings.TrimRight(plain(line), " "))
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
