package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

const (
	// lookEvery is how often a job is looked at while it is waited for.
	lookEvery = 500 * time.Millisecond
	// lookPatience is how long nothing may answer before waiting gives up:
	// longer than a server takes to be replaced.
	lookPatience = 60 * time.Second
	// cancelTimeout bounds the cancelling of a job after Ctrl-C.
	cancelTimeout = 20 * time.Second
)

func runCommand(p *Program) *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "run [flags] [-f FILE] [--] COMMAND...",
		Short: "Submit a job, follow it and end as it does",
		Long: `Submit a job, follow it, and end as it does: its standard output and standard
error come out here, and its exit code is that of this command. A job that timed
out ends it with 124, a cancelled one with 130, one that the platform ended with
125. Ctrl-C cancels the job and waits for its end; a second one leaves.

` + jobFlagsHelp,
		Example: `  dsvm run --pool cpu -- echo hello
  dsvm run --pool cpu --cpus 2 --script train.sh`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if p.output == "json" {
				return WrongUse("run prints what the job writes, which is not JSON; use job submit, job wait and job show with -o json")
			}
			d, err := f.document(p, c.Flags(), args)
			if err != nil {
				return err
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			return s.explain(p.run(c.Context(), s, d, newID(d)))
		},
	}
	f.register(p, c)
	return c
}

// run submits a job and stays until its end. The end of ctx cancels the job,
// which is then followed to its end all the same.
func (p *Program) run(ctx context.Context, s *session, d *document, id string) error {
	stop := p.progress("submitting the job at " + s.instance.URL)
	_, err := submit(ctx, s, d, id)
	stop()
	if err != nil && ctx.Err() == nil {
		return err
	}
	// From here on, Ctrl-C is about the job. If it came while the job was being
	// submitted, nobody knows whether that has worked, and cancelling is right
	// either way.
	follow, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	release := context.AfterFunc(ctx, func() {
		if err := p.cancelRun(follow, s, id); err != nil {
			leave(err)
		}
	})
	defer release()

	written := p.writeProgress(follow, s, id)
	j, err := p.followJob(follow, s, id)
	if cause := context.Cause(follow); cause != nil {
		err = cause
	}
	leave(nil)
	<-written
	if err != nil {
		return err
	}
	return jobExit(j)
}

// cancelRun cancels the job of a run after Ctrl-C.
func (p *Program) cancelRun(ctx context.Context, s *session, id string) error {
	fmt.Fprintf(p.Err, "dsvm: cancelling job %s; Ctrl-C again leaves without waiting for it\n", id)
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	_, err := s.Cancel(ctx, id)
	switch {
	case err == nil:
		return nil
	case fault.CodeOf(err) == fault.NotFound:
		return &Exit{Code: codeCancelled, Err: fmt.Errorf("interrupted before job %s was submitted", id)}
	}
	return fmt.Errorf("job %s could not be cancelled: %w.\nTry dsvm job cancel %s", id, err, id)
}

// followJob copies the output of all attempts of a job, one after the other,
// and returns the job as it has ended.
func (p *Program) followJob(ctx context.Context, s *session, id string) (wire.Job, error) {
	for attempt := 1; ; attempt++ {
		g, both := errgroup.WithContext(ctx)
		for stream, out := range map[string]io.Writer{"stdout": p.Out, "stderr": p.Err} {
			g.Go(func() error {
				err := s.ReadLog(both, client.Log{Job: id, Stream: stream, Attempt: attempt}, true, out)
				if fault.CodeOf(err) == fault.NotFound {
					return nil // the job ended without this attempt
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return wire.Job{}, err
		}
		j, err := p.look(ctx, s, id)
		// A job may have ended while an earlier attempt was still being read.
		if err != nil || j.State.Final() && attempt >= len(j.Attempts) {
			return j, err
		}
	}
}

// look asks for a job, with patience for an instance that is away for a while.
func (p *Program) look(ctx context.Context, s *session, id string) (wire.Job, error) {
	begin := time.Now()
	for {
		j, err := s.Job(ctx, id)
		if err == nil || ctx.Err() != nil || !mayComeBack(err) || time.Since(begin) > lookPatience {
			return j, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// mayComeBack reports whether an error is one of an instance that may come back.
func mayComeBack(err error) bool {
	var denied *client.Denied
	code := fault.CodeOf(err)
	return !errors.As(err, &denied) && (code == fault.Internal || code == fault.Throttled)
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

func jobWait(p *Program) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait for a job and end as it does",
		Long: `Wait for a job, print the state it ends in, and end as it does: with its exit
code, with 124 when it timed out, with 130 when it was cancelled, and with 125
when the platform ended it in another way. --timeout gives up waiting, with 1,
and leaves the job alone.`,
		Example:           "  dsvm job wait nightly-42\n  dsvm job wait nightly-42 --timeout 10m -o json",
		Args:              exactly("the ID of a job"),
		ValidArgsFunction: p.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("timeout") && timeout <= 0 {
				return WrongUse("--timeout is %s; it takes a time such as 10m", timeout)
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			ctx := c.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			j, err := p.wait(ctx, s, args[0])
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("job %s has not ended within %s; it goes on", args[0], timeout)
			}
			if err != nil {
				return s.explain(err)
			}
			if err := p.answer(j, string(j.State)); err != nil {
				return err
			}
			return jobExit(j)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait, such as 90s, 10m, 2h (default: as long as it takes)")
	return c
}

// wait looks at a job until it has ended.
func (p *Program) wait(ctx context.Context, s *session, id string) (wire.Job, error) {
	news := p.newStory()
	for {
		j, err := p.look(ctx, s, id)
		if err != nil || j.State.Final() {
			return j, err
		}
		news.writeNews(j)
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
