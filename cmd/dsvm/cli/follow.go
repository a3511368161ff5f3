package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// streams are the logs of a job, in the order in which they are written one after the other.
var streams = []string{"stdout", "stderr"}

// output is where a job's streams go.
type output map[string]io.Writer

// jobOutput makes writers for both streams of a job: to the standard output and the standard
// error of this process. The function ends the last line of what a terminal shows.
func (p *Program) jobOutput() (out output, end func()) {
	screens := []*screen{newScreen(p.Out, p.Width > 0, ""), newScreen(p.Err, p.ErrWidth > 0, p.stderrColor())}
	return output{"stdout": screens[0], "stderr": screens[1]}, func() {
		for _, s := range screens {
			s.end()
		}
	}
}

// stderrColor tells standard error from standard output on a terminal.
func (p *Program) stderrColor() string {
	if p.ErrColor && p.Color {
		return colorYellow
	}
	return ""
}

// logRequest says which log of a job is followed or printed.
type logRequest struct {
	job     string
	streams []string
	attempt int // 0 = from the last one there is
	rank    int
	tail    int       // last lines of the first attempt; 0 = all
	since   time.Time // what was written since, of the first attempt; zero = all
}

// followJob copies the output of all attempts of a job, one after the other,
// and returns the job as it has ended.
func (p *Program) followJob(ctx context.Context, s *session, want logRequest, out output) (wire.Job, error) {
	for attempt := max(want.attempt, 1); ; attempt++ {
		if err := copyAttempt(ctx, s, want, attempt, out); err != nil {
			return wire.Job{}, err
		}
		want.tail, want.since = 0, time.Time{} // of the first attempt alone
		j, err := look(ctx, s, want.job)
		// A job may have ended while an earlier attempt was still being read.
		if err != nil || j.State.Final() && attempt >= len(j.Attempts) {
			return j, err
		}
		if attempt <= len(j.Attempts) {
			a := j.Attempts[attempt-1]
			text := fmt.Sprintf("attempt %d of job %s is %s", attempt, j.ID, people(string(a.State)))
			if a.Reason != "" {
				text += ": " + a.Reason
			}
			p.Say("%s; waiting for attempt %d", text, attempt+1)
		}
	}
}

// copyAttempt copies what an attempt writes until it has ended.
func copyAttempt(ctx context.Context, s *session, want logRequest, attempt int, out output) error {
	g, both := errgroup.WithContext(ctx)
	for _, stream := range want.streams {
		g.Go(func() error {
			l := client.Log{Job: want.job, Stream: stream, Attempt: attempt, Rank: want.rank, Tail: want.tail, Since: want.since}
			err := s.ReadLog(both, l, true, marked{out[stream]})
			if fault.CodeOf(err) == fault.NotFound {
				return nil // the job ended without this attempt
			}
			return err
		})
	}
	return g.Wait()
}

// marked marks errors of writing.
type marked struct{ out io.Writer }

func (m marked) Write(b []byte) (int, error) {
	n, err := m.out.Write(b)
	if err != nil {
		err = &outputError{err}
	}
	return n, err
}

// writeProgress writes on standard error how a job goes on, until ctx ends. The channel
// is closed when nothing more will be written.
func (p *Program) writeProgress(ctx context.Context, s *session, id string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		news := p.newStory()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(progressAfter):
			}
			if j, err := s.Job(ctx, id); err == nil && ctx.Err() == nil {
				news.writeNews(j)
			}
		}
	}()
	return done
}
