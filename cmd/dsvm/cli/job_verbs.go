package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// askedAtOnce bounds the jobs about which a command asks side by side.
const askedAtOnce = 8

// severalHelp is the end of the help of a command that takes several jobs.
const severalHelp = `

With several ids each line begins with its job, and -o json prints a list. A job
about which it fails does not keep it from the others; the exit code is 1 then.`

func jobCancel(p *Program) *cobra.Command {
	var f client.JobFilter
	c := &cobra.Command{
		Use: "cancel ID... | --user NAME | --team NAME", Short: "Ask jobs, or all of a user or a team, to end", Args: cobra.ArbitraryArgs,
		Long: `Ask jobs to end. A job that waits ends at once, a running one when its process
has, a sweep when its members have. Cancelling a job that has ended changes
nothing. Prints the job's state.

With --user or --team, all jobs of the user or the team are asked to end, in all
pools or in the one of --pool. Prints how many were alive.` + severalHelp,
		Example:           "  dsvm job cancel nightly-42\n  dsvm job cancel tune.3 tune.7\n  dsvm job cancel --user ann --pool gpu",
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE: func(c *cobra.Command, args []string) error {
			many := f.User != "" || f.Team != ""
			if many == (len(args) > 0) || slices.Contains(args, "") {
				return WrongUse("name the IDs of jobs, or --user NAME, or --team NAME")
			}
			if many {
				return p.cancelAll(c.Context(), f)
			}
			return askAboutJobs(p, "cancelling job", (*session).Cancel, jobState)(c, args)
		},
	}
	c.Flags().StringVar(&f.User, "user", "", "all jobs of this user")
	c.Flags().StringVar(&f.Team, "team", "", "all jobs of this team")
	c.Flags().StringVar(&f.Pool, "pool", "", "only in this pool; with --user or --team")
	complete(c, "pool", p.completePools)
	return c
}

func jobHold(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "hold ID...", Short: "Keep jobs that wait from starting", Args: severalOf("the ID of a job"),
		Long: `Keep jobs that wait from starting until ` + "`dsvm job release`" + `. Of a sweep no more
members begin; those that run go on. A job that runs cannot be held. Prints the
job's state.` + severalHelp,
		Example:           "  dsvm job hold nightly-42\n  dsvm job hold tune nightly-43",
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE:              askAboutJobs(p, "holding job", (*session).Hold, jobState),
	}
}

func jobRelease(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "release ID...", Short: "Let jobs or sweeps go on that are held", Args: severalOf("the ID of a job"),
		Long: `Let jobs go on that are held: by ` + "`dsvm job hold`" + `, or since their attempts came to
nothing on several nodes in a row, and then each gets one more try. A sweep that
is held since its members fail begins more of them, and failures are counted
again from there. For any other job it changes nothing. Prints the job's state.` + severalHelp,
		Example:           "  dsvm job release nightly-42\n  dsvm job release tune nightly-43",
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE:              askAboutJobs(p, "releasing job", (*session).Release, jobState),
	}
}

func jobUpdate(p *Program) *cobra.Command {
	priorities := []string{string(job.Low), string(job.Normal), string(job.High)}
	var priority string
	c := &cobra.Command{
		Use: "update ID... --priority low|normal|high", Short: "Give jobs another priority", Args: severalOf("the ID of a job, and --priority"),
		Long: `Give jobs another priority: those that wait move in the line, a running one has it
for its next attempt, and of a sweep all members have it that have not ended.
Prints the job's state.` + severalHelp,
		Example:           "  dsvm job update nightly-42 --priority high\n  dsvm job update tune nightly-43 --priority low",
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(priorities, priority) {
				return WrongUse("say what to change: --priority low, normal or high")
			}
			set := func(s *session, ctx context.Context, id string) (wire.Job, error) {
				return s.SetPriority(ctx, id, job.Priority(priority))
			}
			return askAboutJobs(p, "changing job", set, jobState)(c, args)
		},
	}
	c.Flags().StringVar(&priority, "priority", "", "its priority from now on: low, normal or high")
	complete(c, "priority", cobra.FixedCompletions(priorities, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func jobRerun(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "rerun ID...", Short: "Submit the documents of jobs again", Args: severalOf("the ID of a job"),
		Long: `Submit the document of a job again, as the instance has it, under a new id: that
of the job with -r2, -r3 and so on. The job may have ended or not. A sweep runs
again with all of its members; a member runs again as a job of its own. Prints
the new id.` + severalHelp,
		Example:           "  dsvm job rerun nightly-42\n  dsvm job rerun tune.3 tune.7",
		ValidArgsFunction: eachOf(p.completeJobs),
		RunE:              askAboutJobs(p, "rerunning job", (*session).Rerun, func(j wire.Job) string { return j.ID }),
	}
}

func jobState(j wire.Job) string { return string(j.State) }

// askAboutJobs makes a command's RunE: it asks the instance about each of the jobs that the
// arguments name, and prints what it answers. A failure about one does not stop the others.
func askAboutJobs(
	p *Program,
	doing string,
	request func(*session, context.Context, string) (wire.Job, error),
	show func(wire.Job) string,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return askAbout(p, doing, request, func(j wire.Job) error { return p.lines(show(j)) })(c, args)
		}
		jobs, errs := make([]wire.Job, len(args)), make([]error, len(args))
		err := p.with(c.Context(), fmt.Sprintf("%s %s and %d more", doing, args[0], len(args)-1), func(ctx context.Context, s *session) error {
			var group errgroup.Group
			group.SetLimit(askedAtOnce)
			for i, id := range args {
				group.Go(func() error {
					j, err := request(s, ctx, id)
					jobs[i], errs[i] = j, s.explain(err)
					return nil
				})
			}
			return group.Wait()
		})
		if err != nil {
			return err
		}
		return p.showJobs(c, args, jobs, errs, show)
	}
}

// showJobs prints what is known of jobs, or why nothing is. ids is what they were asked for
// by.
func (p *Program) showJobs(c *cobra.Command, ids []string, jobs []wire.Job, errs []error, show func(wire.Job) string) error {
	found := []wire.Job{}
	var lines []string
	failed := false
	for i, j := range jobs {
		if errs[i] != nil {
			failed = true
			p.report(c, errs[i])
			continue
		}
		found, lines = append(found, j), append(lines, ids[i]+": "+show(j))
	}
	if err := p.answer(found, lines...); err != nil {
		return err
	}
	if failed {
		return &Exit{Code: codeFailure}
	}
	return nil
}

func (p *Program) cancelAll(ctx context.Context, f client.JobFilter) error {
	out, err := ask(ctx, p, "cancelling the jobs", func(ctx context.Context, s *session) (wire.Cancelled, error) {
		return s.CancelAll(ctx, f)
	})
	if err != nil {
		return err
	}
	return p.answer(out, fmt.Sprintf("%d cancelled", out.Jobs))
}
