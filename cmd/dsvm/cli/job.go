package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

func jobCommand(p *Program) *cobra.Command {
	return noun("job", "Submit, follow and cancel jobs",
		jobSubmit(p), jobList(p), jobShow(p), jobExplain(p), jobLogs(p), jobWait(p), jobCancel(p), jobRelease(p))
}

// states are what --state takes.
var states = []string{string(job.Submitted), string(job.Held), string(job.Queued), string(job.Assigned), string(job.Running),
	string(job.Succeeded), string(job.Failed), string(job.Cancelled), string(job.TimedOut), string(job.Rejected)}

// jobColumns are those of a list of jobs.
const jobColumns = "ID POOL ?NAME ?TEAM *STATE <EXIT SUBMITTED TOOK REASON"

func jobList(p *Program) *cobra.Command {
	var f client.JobFilter
	var state string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List jobs, newest first within a pool", Args: cobra.NoArgs,
		Example: "  dsvm job list\n  dsvm job list --pool cpu --state failed --limit 10\n  dsvm job list --sweep tune --state failed\n  dsvm job list -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return WrongUse("--limit is %d; it takes a number from 1 up", limit)
			}
			f.State = job.State(state)
			jobs, err := ask(c.Context(), p, "asking for the jobs", func(ctx context.Context, s *session) ([]wire.Job, error) {
				return s.Jobs(ctx, f, limit)
			})
			if err != nil {
				return err
			}
			t := newTable(jobColumns)
			for _, j := range jobs {
				t.add(j.ID, j.Pool, j.Name, j.Team, j.State, exitText(j.ExitCode), p.age(j.SubmittedAt),
					p.took(j.StartedAt, j.EndedAt), cmp.Or(sweepText(j), j.Reason))
			}
			return p.list(jobs, t, "no such jobs")
		},
	}
	c.Flags().StringVar(&f.Pool, "pool", "", "only jobs of this pool")
	c.Flags().StringVar(&f.Team, "team", "", "only jobs of this team")
	c.Flags().StringVar(&f.User, "user", "", "only jobs of this user")
	c.Flags().StringVar(&f.Sweep, "sweep", "", "the members of this sweep that have begun; without it no members are listed")
	c.Flags().StringVar(&state, "state", "", "only jobs in this state: "+strings.Join(states, ", "))
	c.Flags().IntVar(&limit, "limit", wire.DefaultLimit, "how many jobs at most")
	complete(c, "pool", p.completePools)
	complete(c, "state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// sweepText is how far a sweep that goes on has come.
func sweepText(j wire.Job) string {
	w := j.Sweep
	if w == nil || j.State.Final() || j.State == job.Held {
		return ""
	}
	text := fmt.Sprintf("%d%% of %d members, %d running", w.Percent, w.Members, w.Running)
	if bad := w.Failed + w.TimedOut; bad > 0 {
		text += fmt.Sprintf(", %d failed", bad)
	}
	return text
}

func exitText(code *int) string {
	if code == nil {
		return ""
	}
	return fmt.Sprint(*code)
}

// took is how long something ran, or has been running.
func (p *Program) took(from, to *time.Time) string {
	if from == nil {
		return ""
	}
	if to == nil {
		return span(p.Now().Sub(*from))
	}
	return span(to.Sub(*from))
}

func jobShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one job with its attempts", Args: exactly("the ID of a job"),
		Example:           "  dsvm job show nightly-42\n  dsvm job show nightly-42 -o json",
		ValidArgsFunction: p.completeJobs,
		RunE:              askAbout(p, "asking for job", (*session).Job, p.showJob),
	}
}

func (p *Program) showJob(j wire.Job) error {
	err := p.facts([][2]string{
		{"id", j.ID}, {"pool", j.Pool}, {"name", j.Name}, {"team", j.Team}, {"user", j.User},
		{"state", string(j.State)}, {"reason", j.Reason}, {"exit code", exitText(j.ExitCode)},
		{"submitted", p.at(j.SubmittedAt)}, {"started", p.at(j.StartedAt)}, {"ended", p.at(j.EndedAt)},
		{"kept", j.Kept},
	})
	if err != nil {
		return err
	}
	if w := j.Sweep; w != nil {
		fmt.Fprintln(p.Out, "members")
		t := newTable("<ALL <RUNNING <SUCCEEDED <FAILED <TIMEDOUT <CANCELLED <ENDED")
		t.add(w.Members, w.Running, w.Succeeded, w.Failed, w.TimedOut, w.Cancelled, fmt.Sprintf("%d%%", w.Percent))
		if err := t.write(p, "  "); err != nil {
			return err
		}
	}
	if len(j.Attempts) > 0 {
		fmt.Fprintln(p.Out, "attempts")
		t := newTable("<NUMBER NODE *STATE <EXIT STARTED TOOK REASON")
		for _, a := range j.Attempts {
			t.add(a.Number, a.Node, a.State, exitText(a.ExitCode), p.age(a.StartedAt), p.took(a.StartedAt, a.EndedAt), a.Reason)
			for _, r := range a.Ranks {
				t.add(fmt.Sprintf("rank %d", r.Rank), r.Node, r.State, exitText(r.ExitCode), p.age(r.StartedAt),
					p.took(r.StartedAt, r.EndedAt), r.Reason)
			}
		}
		if err := t.write(p, "  "); err != nil {
			return err
		}
	}
	if j.Spec == nil {
		return nil
	}
	return p.spec(j.Spec)
}

func jobExplain(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "explain ID", Short: "Say why a job is where it is", Args: exactly("the ID of a job"),
		Example:           "  dsvm job explain nightly-42",
		ValidArgsFunction: p.completeJobs,
		RunE: askAbout(p, "asking about job", (*session).Explain, func(e wire.Explanation) error {
			place := ""
			if e.Place > 0 {
				place = fmt.Sprintf("place in line: %d of %d", e.Place, e.Waiting)
			}
			return p.lines(fmt.Sprintf("%s: %s", e.State, e.Reason), place, waitsFor(e.Unblocks))
		}),
	}
}

// waitsFor is a line that says what somebody waits for; "" = for nothing.
func waitsFor(what string) string {
	if what == "" {
		return ""
	}
	return "waits for: " + what
}

func jobCancel(p *Program) *cobra.Command {
	var f client.JobFilter
	c := &cobra.Command{
		Use: "cancel ID | --user NAME | --team NAME", Short: "Ask a job, or all of a user or a team, to end", Args: cobra.MaximumNArgs(1),
		Long: `Ask a job to end. A job that waits ends at once, a running one when its process
has, a sweep when its members have. Cancelling a job that has ended changes
nothing. Prints the job's state.

With --user or --team, all jobs of the user or the team are asked to end, in all
pools or in the one of --pool. Prints how many were alive.`,
		Example:           "  dsvm job cancel nightly-42\n  dsvm job cancel --user ann --pool gpu",
		ValidArgsFunction: p.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			many := f.User != "" || f.Team != ""
			if many == (len(args) == 1) {
				return WrongUse("name the ID of a job, or --user NAME, or --team NAME")
			}
			if many {
				return p.cancelAll(c.Context(), f)
			}
			return askAbout(p, "cancelling job", (*session).Cancel, p.showJobState)(c, args)
		},
	}
	c.Flags().StringVar(&f.User, "user", "", "all jobs of this user")
	c.Flags().StringVar(&f.Team, "team", "", "all jobs of this team")
	c.Flags().StringVar(&f.Pool, "pool", "", "only in this pool; with --user or --team")
	complete(c, "pool", p.completePools)
	return c
}

func jobRelease(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "release ID", Short: "Let a job or a sweep go on that is held", Args: exactly("the ID of a job"),
		Long: `Let a job go on that is held since its attempts came to nothing on several nodes in
a row: it gets one more try. A sweep that is held since its members fail begins
more of them, and failures are counted again from there. For any other job it
changes nothing. Prints the job's state.`,
		Example:           "  dsvm job release nightly-42\n  dsvm job release tune",
		ValidArgsFunction: p.completeJobs,
		RunE:              askAbout(p, "releasing job", (*session).Release, p.showJobState),
	}
}

func (p *Program) showJobState(j wire.Job) error { return p.lines(string(j.State)) }

func (p *Program) cancelAll(ctx context.Context, f client.JobFilter) error {
	out, err := ask(ctx, p, "cancelling the jobs", func(ctx context.Context, s *session) (wire.Cancelled, error) {
		return s.CancelAll(ctx, f)
	})
	if err != nil {
		return err
	}
	return p.answer(out, fmt.Sprintf("%d cancelled", out.Jobs))
}

func jobLogs(p *Program) *cobra.Command {
	var follow, stderr bool
	var attempt, rank int
	c := &cobra.Command{
		Use: "logs ID", Short: "Print what a job wrote", Args: exactly("the ID of a job"),
		Long: `Print what a job wrote to its standard output, or to its standard error, in its
last attempt.`,
		Example:           "  dsvm job logs nightly-42\n  dsvm job logs nightly-42 --follow\n  dsvm job logs nightly-42 --stderr --attempt 1",
		ValidArgsFunction: p.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			if p.output == "json" {
				return WrongUse("job logs prints what the job wrote, which is not JSON; leave out -o json")
			}
			if c.Flags().Changed("attempt") && attempt < 1 {
				return WrongUse("--attempt is %d; attempts are numbered from 1", attempt)
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			l := client.Log{Job: args[0], Stream: "stdout", Attempt: attempt, Rank: rank}
			if stderr {
				l.Stream = "stderr"
			}
			if !follow {
				return s.explain(s.ReadLog(c.Context(), l, false, p.Out))
			}
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			done := p.writeProgress(ctx, s, args[0])
			err = s.explain(s.ReadLog(ctx, l, true, p.Out))
			cancel()
			<-done
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the attempt has ended")
	c.Flags().BoolVar(&stderr, "stderr", false, "standard error instead of standard output")
	c.Flags().IntVar(&rank, "rank", 0, "which of the nodes of a job on several, from 0")
	c.Flags().IntVar(&attempt, "attempt", 0, "number of the attempt (default the last one)")
	return c
}
