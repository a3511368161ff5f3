package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

const (
	// maxTail is how many lines the instance finds from the end of a log.
	maxTail = 100_000
	// maxFollowed is how many jobs are followed at once: each holds two requests open.
	maxFollowed = 50
)

func jobLogs(p *Program) *cobra.Command {
	var follow, stdout, stderr bool
	var since string
	want := logRequest{}
	c := &cobra.Command{
		Use:   "logs ID...",
		Short: "Print what jobs wrote",
		Long: `Print what jobs wrote in their last attempt: what went to standard output to
standard output, and what went to standard error to standard error (in another
colour on a terminal). With several ids each line begins with its job.

-f follows: it waits for a job that waits and says why, goes on through retries,
and ends with the exit code of the job, as run does; with several, with that of
the first one in the list that did not succeed. With --attempt it ends with that
attempt, and the exit code says only whether the log could be read.

--since takes how long ago (10m, 2h), today, yesterday, a day (2026-01-31, from
midnight here) or a time. It is exact to 10 s: up to 10 s more may come. Of an
attempt that wrote only in its first 10 s, or on a node without a bound of logs,
all comes unless the attempt ended before. With --tail both hold.`,
		Example: `  dsvm job logs nightly-42
  dsvm job logs nightly-42 --follow
  dsvm job logs nightly-42 --stderr --attempt 1 --tail 20
  dsvm job logs nightly-42 -f --since 10m
  dsvm job logs tune.0 tune.1 -f`,
		Args:              severalOf("the ID of a job"),
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE: func(c *cobra.Command, args []string) error {
			switch flags := c.Flags(); {
			case p.output == outputJSON:
				return WrongUse("job logs prints what the job wrote, which is not JSON; leave out -o json")
			case flags.Changed("attempt") && want.attempt < 1:
				return WrongUse("--attempt is %d; attempts are numbered from 1", want.attempt)
			case flags.Changed("tail") && (want.tail < 1 || want.tail > maxTail):
				return WrongUse("--tail is %d; it takes a number of lines from 1 to %d", want.tail, maxTail)
			case follow && len(args) > maxFollowed:
				return WrongUse("these are %d jobs; at most %d can be followed at once", len(args), maxFollowed)
			}
			var err error
			if want.since, _, err = p.period([2]string{"--since", since}, [2]string{}, p.zone()); err != nil {
				return err
			}
			want.streams = streams
			if stdout != stderr {
				want.streams = []string{"stdout"}
				if stderr {
					want.streams = []string{"stderr"}
				}
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			if follow {
				return s.explain(p.followLogs(c.Context(), s, want, args))
			}
			return s.explain(p.printLogs(c.Context(), s, want, args))
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job has ended, and end as it does")
	c.Flags().BoolVar(&stdout, "stdout", false, "standard output alone")
	c.Flags().BoolVar(&stderr, "stderr", false, "standard error alone")
	c.Flags().IntVar(&want.tail, "tail", 0, "only so many of the last lines of each stream")
	c.Flags().StringVar(&since, "since", "", "only what was written then or later: 10m (ago), 2h, a day or a time")
	c.Flags().IntVar(&want.rank, "rank", 0, "which of the nodes of a job on several, from 0")
	c.Flags().IntVar(&want.attempt, "attempt", 0, "number of the attempt (default the last one)")
	return c
}

// printLogs prints what there is of the logs of jobs.
func (p *Program) printLogs(ctx context.Context, s *session, want logRequest, ids []string) error {
	for _, want.job = range ids {
		out, end := p.jobOutput()
		if len(ids) > 1 {
			out, end = prefixed(out, want.job, new(sync.Mutex), end)
		}
		err := printLog(ctx, s, want, out)
		end()
		if fault.CodeOf(err) == fault.NotFound {
			if j, failed := s.Job(ctx, want.job); failed == nil && j.Sweep != nil {
				err = sweepHasNoLogs(j)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printLog prints what there is of the logs of a job.
func printLog(ctx context.Context, s *session, want logRequest, out output) error {
	missing := 0
	var none error
	for _, stream := range want.streams {
		l := client.Log{Job: want.job, Stream: stream, Attempt: want.attempt, Rank: want.rank, Tail: want.tail, Since: want.since}
		err := s.ReadLog(ctx, l, false, marked{out[stream]})
		if fault.CodeOf(err) == fault.NotFound {
			missing++
			none = err
		} else if err != nil {
			return err
		}
	}
	if missing == len(want.streams) {
		return none
	}
	return nil
}

// followLogs follows jobs side by side, and ends as the first one in the list that did
// not succeed.
func (p *Program) followLogs(ctx context.Context, s *session, want logRequest, ids []string) error {
	ends := make([]error, len(ids))
	var lines sync.Mutex // one line at a time
	g, all := errgroup.WithContext(ctx)
	for i, id := range ids {
		out, end := p.jobOutput()
		if len(ids) > 1 {
			out, end = prefixed(out, id, &lines, end)
		}
		mine := want
		mine.job = id
		g.Go(func() error {
			defer end()
			ends[i] = p.followLog(all, s, mine, out)
			var ended *Exit
			if errors.As(ends[i], &ended) {
				return nil // the others go on
			}
			return ends[i]
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, end := range ends {
		if end != nil {
			return end
		}
	}
	return nil
}

// followLog follows one job to its end, or one attempt of it.
func (p *Program) followLog(ctx context.Context, s *session, want logRequest, out output) error {
	j, err := s.Job(ctx, want.job)
	if err != nil {
		return err
	}
	if j.Sweep != nil {
		return sweepHasNoLogs(j)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	written := p.writeProgress(ctx, s, want.job)
	switch {
	case want.attempt > 0:
		err = copyAttempt(ctx, s, want, want.attempt, out)
	case j.State.Final():
		if err = copyAttempt(ctx, s, want, 0, out); err == nil {
			err = jobExit(j)
		}
	default:
		want.attempt = max(len(j.Attempts), 1)
		if j, err = p.followJob(ctx, s, want, out); err == nil {
			err = jobExit(j)
		}
	}
	end()
	<-written
	return err
}

// sweepHasNoLogs says where the logs of a sweep are.
func sweepHasNoLogs(j wire.Job) error {
	return WrongUse("job %s is a sweep, whose members have the logs: %s.0 to %s.%d; `dsvm job list --sweep %s` lists them",
		j.ID, j.ID, j.ID, j.Sweep.Members-1, j.ID)
}

// prefixed makes writers whose every line begins with the id of a job. Lines are written
// one at a time.
func prefixed(out output, id string, lines *sync.Mutex, end func()) (output, func()) {
	both := output{}
	var all []*prefixer
	for stream, to := range out {
		x := &prefixer{out: to, lines: lines, prefix: id + " | "}
		both[stream], all = x, append(all, x)
	}
	return both, func() {
		for _, x := range all {
			x.end()
		}
		end()
	}
}

// prefixer writes whole lines, with a prefix.
type prefixer struct {
	out    io.Writer
	lines  *sync.Mutex
	prefix string
	line   []byte // that has no end yet
}

// longLine is the length from which a line is written in pieces.
const longLine = 16 << 10

func (x *prefixer) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		ends := n > 0
		if !ends {
			n = len(rest)
		}
		x.line, rest = append(x.line, rest[:n]...), rest[n:]
		if !ends && len(x.line) < longLine {
			continue
		}
		cut := len(x.line)
		if !ends {
			for back := 1; back < utf8.UTFMax && !utf8.FullRune(x.line[cut-back:]); back++ {
				cut = len(x.line) - back // a character is not torn
			}
		}
		left := bytes.Clone(x.line[cut:])
		if err := x.write(x.line[:cut], ends); err != nil {
			return 0, err
		}
		x.line = left
	}
	return len(b), nil
}

func (x *prefixer) write(line []byte, ends bool) error {
	x.lines.Lock()
	defer x.lines.Unlock()
	if !ends {
		line = append(bytes.Clone(line), '\n')
	}
	_, err := x.out.Write(append([]byte(x.prefix), line...))
	return err
}

// end writes what has no end yet.
func (x *prefixer) end() {
	if len(x.line) > 0 {
		_ = x.write(x.line, false)
		x.line = nil
	}
}
