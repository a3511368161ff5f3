package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

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
	// cancelTimeout bounds the cancelling of a job after Ctrl-C, and before that the
	// submission that is under way.
	cancelTimeout = 20 * time.Second
	// costTimeout bounds the question what a job has cost, for which nobody wants to wait.
	costTimeout = 5 * time.Second
	// unknownWithin is how long a job that the instance does not know may still come, after
	// a submission whose answer was lost.
	unknownWithin = 5 * time.Second
)

func runCommand(p *Program) *cobra.Command {
	var f jobFlags
	var fetch fetchFlags
	var detach bool
	c := &cobra.Command{
		Use:   "run [flags] [-f FILE] [--] COMMAND...",
		Short: "Submit a job, follow it and end as it does",
		Long: `Submit a job, follow it through its retries, and end as it does: its standard
output and standard error come out here, and its exit code is that of this
command. A job that timed out ends it with 124, a cancelled one with 130, one that
the platform ended with 125.

Of a sweep it says how far it has come, and at the end what members that failed
wrote last. It ends with 0 when all members have succeeded, and else with the exit
code of the first one that did not.

Ctrl-C cancels the job and waits for its end; a second one leaves as soon as the
instance has taken the cancel. A closed terminal, or a reader of the output that
has gone, cancels the job as well. --detach only submits it and prints its id.

On a terminal it ends with what the job has cost, with all its attempts.

` + jobFlagsHelp,
		Example: `  dsvm run --pool cpu -- echo hello
  dsvm run --pool cpu --cpus 2 --script train.sh
  dsvm run --pool cpu --sync . --fetch results -- python3 train.py
  dsvm run --pool cpu --detach --script train.sh`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if p.output == outputJSON && !detach && !f.dryRun && !f.sync.listOnly {
				return WrongUse("run prints what the job writes, which is not JSON; use --detach, or job submit, job wait and job show with -o json")
			}
			d, err := f.document(p, c.Flags(), args)
			if err != nil {
				return err
			}
			if f.dryRun {
				f.sync.noteDryRun(p)
				return p.dryRun(c.Context(), []*document{d})
			}
			if err := fetch.check(detach); err != nil {
				return err
			}
			if done, err := f.sync.send(c.Context(), p, d); done || err != nil {
				return err
			}
			if detach {
				return p.runDetached(c.Context(), d)
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			id := newID(d)
			return fetch.fetch(c.Context(), p, s, id, s.explain(p.run(c.Context(), s, d, id)))
		},
	}
	f.register(p, c)
	fetch.register(c)
	c.Flags().BoolVar(&detach, "detach", false, "print the id of the job and leave; nothing here cancels it")
	return c
}

// runDetached submits a job, and says how to follow it.
func (p *Program) runDetached(ctx context.Context, d *document) error {
	id := newID(d)
	j, err := ask(ctx, p, "submitting job "+id, func(ctx context.Context, s *session) (wire.Job, error) {
		return submit(ctx, s, d, id)
	})
	if err != nil {
		return sayWhetherSubmitted(err, id)
	}
	if err := p.answer(j, j.ID); err != nil {
		return err
	}
	p.Say("`dsvm job logs -f %s` follows job %s, `dsvm job cancel %s` ends it", j.ID, j.ID, j.ID)
	return nil
}

// sayWhetherSubmitted adds to the error of a submission whose answer was lost that the
// job may be there all the same.
func sayWhetherSubmitted(err error, id string) error {
	if !isUnclear(err) {
		return err
	}
	return fmt.Errorf("whether job %s was submitted is not known: %w; `dsvm job show %s` says it, `dsvm job cancel %s` ends it",
		id, err, id, id)
}

// isUnclear reports whether a request that has failed may have been done.
func isUnclear(err error) bool {
	var denied *client.Denied
	var unreachable *client.Unreachable
	code := fault.CodeOf(err)
	return !errors.As(err, &denied) && !errors.As(err, &unreachable) && code == fault.Internal
}

// run submits a job and stays until its end. The end of ctx cancels the job,
// which is then followed to its end all the same.
func (p *Program) run(ctx context.Context, s *session, d *document, id string) error {
	more, release := p.Signals.hold()
	defer release()
	if err := ctx.Err(); err != nil {
		return err // nothing was sent
	}
	p.renewing = new(atomic.Bool)
	life, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	r := &oneRun{
		p:         p,
		s:         s,
		id:        id,
		sweep:     d.fields["sweep"] != nil,
		more:      more,
		life:      life,
		leave:     leave,
		submitted: make(chan struct{}),
		taken:     make(chan struct{}),
	}
	// From here on, Ctrl-C is about the job. If it comes while the job is being
	// submitted, nobody knows whether that has worked: the answer is waited for, and
	// the job cancelled.
	keep := context.AfterFunc(ctx, func() { r.cancel(p.Signals.hasHungUp()) })
	err := r.submit(ctx, d)
	if err != nil {
		if keep() {
			return sayWhetherSubmitted(err, id)
		}
		r.awaitCancel() // it says whether there is a job
	}
	if life.Err() == nil {
		err = r.follow()
	}
	var ended *Exit
	switch {
	case err == nil, errors.As(err, &ended), life.Err() != nil:
	case ctx.Err() != nil:
		// It cannot be followed any more; the cancel goes on all the same.
		if r.awaitCancel() && life.Err() == nil {
			return &Exit{Code: codeCancelled, Err: fmt.Errorf("job %s is cancelled, but its end was not seen: %w", id, err)}
		}
	case !isClosed(err):
		err = fmt.Errorf("job %s goes on, but it is not followed any more: %w; `dsvm job logs -f %s` follows it, `dsvm job cancel %s` ends it",
			id, err, id, id)
	case keep():
		r.cancel(true)
	default: // a signal came just now
		r.awaitCancel()
	}
	if cause := context.Cause(life); cause != nil {
		return cause
	}
	return err
}

// oneRun is a job that is run and followed.
type oneRun struct {
	p         *Program
	s         *session
	id        string
	sweep     bool                    // its members have the logs
	more      <-chan os.Signal        // signals after the first one
	life      context.Context         // of everything that is done for the run
	leave     context.CancelCauseFunc // ends life, with what this command ends with
	submitted chan struct{}           // closed when the submission has ended
	taken     chan struct{}           // closed when the instance has taken the cancel
	unclear   bool                    // the submission has failed, and may have been done; valid once it has ended
}

// submit submits the job. The end of ctx leaves it some time to end.
func (r *oneRun) submit(ctx context.Context, d *document) error {
	defer close(r.submitted)
	if r.p.ErrWidth > 0 {
		r.p.Say("submitting job %s", r.id)
	}
	stop := r.p.progress("submitting job " + r.id + " at " + r.s.instance.URL)
	defer stop()
	sending, end := context.WithCancel(r.life)
	defer end()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-sending.Done():
		case <-time.After(cancelTimeout):
			end()
		}
	})()
	_, err := submit(sending, r.s, d, r.id)
	r.unclear = err != nil && isUnclear(err)
	return err
}

// follow writes what the job writes until its end, or how far a sweep comes, and ends as
// the job does.
func (r *oneRun) follow() error {
	j, err := r.followToEnd()
	if err != nil {
		return err
	}
	r.sayCost(j)
	return jobExit(j)
}

// sayCost says on a terminal what the job has cost.
func (r *oneRun) sayCost(j wire.Job) {
	if r.p.ErrWidth == 0 {
		return
	}
	ctx, end := context.WithTimeout(r.life, costTimeout)
	defer end()
	if text := amountText(jobCost(ctx, r.s, j).Cost); text != "" {
		r.p.Say("job %s cost %s", r.id, text)
	}
}

// followToEnd returns the job as it has ended.
func (r *oneRun) followToEnd() (wire.Job, error) {
	if r.sweep {
		return r.p.followSweep(r.life, r.s, r.id)
	}
	ctx, end := context.WithCancel(r.life)
	written := r.p.writeProgress(ctx, r.s, r.id)
	out, endLine := r.p.jobOutput()
	j, err := r.p.followJob(ctx, r.s, logRequest{job: r.id, streams: streams}, out)
	endLine()
	end()
	<-written
	return j, err
}

// cancel cancels the job, and has the run leave when that has failed, or when nobody
// waits for the job's end.
func (r *oneRun) cancel(leaving bool) {
	r.p.Say("cancelling job %s; Ctrl-C again leaves without waiting for its end", r.id)
	ctx, end := context.WithTimeout(r.life, 2*cancelTimeout)
	defer end()
	answer := make(chan error, 1)
	go func() {
		select {
		case <-r.submitted:
		case <-ctx.Done():
		}
		answer <- r.sendCancel(ctx)
	}()
	for waiting := true; waiting; {
		select {
		case err := <-answer:
			if err != nil {
				r.leave(err)
				return
			}
			close(r.taken)
			waiting = false
		case sig := <-r.more:
			// A terminal that closes may say so more than once, and must not hinder the cancel.
			if leaving && sig != syscall.SIGHUP {
				r.leave(&Exit{Code: codeCancelled, Err: fmt.Errorf(
					"left before the instance has taken the cancel of job %s; `dsvm job cancel %s` sends it again", r.id, r.id)})
				return
			}
			if !leaving {
				r.p.Say("waiting until the instance has taken the cancel of job %s, at most %s; Ctrl-C again leaves now", r.id, 2*cancelTimeout)
			}
			leaving = true
		}
	}
	left := &Exit{Code: codeCancelled, Err: fmt.Errorf("job %s is cancelled; left without waiting for its end", r.id)}
	if leaving {
		r.leave(left)
		return
	}
	select {
	case <-r.more:
		r.leave(left)
	case <-r.life.Done():
	}
}

// awaitCancel returns when the instance has taken the cancel, or the run has left: false.
func (r *oneRun) awaitCancel() bool {
	select {
	case <-r.taken:
		return true
	case <-r.life.Done():
		return false
	}
}

// sendCancel sends the cancel until the instance has taken it.
func (r *oneRun) sendCancel(ctx context.Context) error {
	ctx, end := context.WithTimeout(ctx, cancelTimeout)
	defer end()
	for begin := time.Now(); ; {
		_, err := r.s.Cancel(ctx, r.id)
		unknown := err != nil && fault.CodeOf(err) == fault.NotFound
		switch {
		case err == nil:
			return nil
		case unknown && (!r.unclear || time.Since(begin) > unknownWithin):
			return &Exit{Code: codeCancelled, Err: fmt.Errorf("interrupted before job %s was submitted", r.id)}
		case !unknown && !mayComeBack(err), ctx.Err() != nil:
			return fmt.Errorf("job %s could not be cancelled: %w; `dsvm job cancel %s` tries it again", r.id, r.s.explain(err), r.id)
		}
		_ = pause(ctx, lookEvery) // Cancel returns why it ends
	}
}

// look asks for a job, with patience for an instance that is away for a while.
func look(ctx context.Context, s *session, id string) (wire.Job, error) {
	return withPatience(ctx, func() (wire.Job, error) { return s.Job(ctx, id) })
}

// withPatience asks again while an instance is away for a while.
func withPatience[T any](ctx context.Context, request func() (T, error)) (T, error) {
	for begin := time.Now(); ; {
		answer, err := request()
		if err == nil || ctx.Err() != nil || !mayComeBack(err) || time.Since(begin) > lookPatience {
			return answer, err
		}
		_ = pause(ctx, lookEvery) // the next request returns why it ends
	}
}

// pause waits for a time; the error is that ctx has ended before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// mayComeBack reports whether an error is one of an instance that may come back.
func mayComeBack(err error) bool {
	var denied *client.Denied
	code := fault.CodeOf(err)
	return !errors.As(err, &denied) && (code == fault.Internal || code == fault.Throttled)
}
