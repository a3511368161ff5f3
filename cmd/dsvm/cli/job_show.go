package cli

import (
	"context"
	"fmt"
	"math/big"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

func jobShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one job with its attempts", Args: exactly("the ID of a job"),
		Long: `Show one job with its attempts. A job that did not succeed is shown with the last
lines that its last attempt wrote to standard error, or to standard output where
that has none; -o json has what the instance says of the job, without them.`,
		Example:           "  dsvm job show nightly-42\n  dsvm job show nightly-42 -o json",
		ValidArgsFunction: firstOf(p.completeJobs),
		RunE: func(c *cobra.Command, args []string) error {
			var last lastLines
			var cost wire.JobCost
			j, err := ask(c.Context(), p, "asking for job "+args[0], func(ctx context.Context, s *session) (wire.Job, error) {
				j, err := s.Job(ctx, args[0])
				if err == nil && p.output != outputJSON {
					last = readLastLines(ctx, s, j, shownLines)
					cost = jobCost(ctx, s, j)
				}
				return j, err
			})
			if err != nil {
				return err
			}
			if p.output == outputJSON {
				return p.json(j)
			}
			if err := p.showJob(j, cost); err != nil {
				return err
			}
			return last.write(p.Out, "")
		},
	}
}

func (p *Program) showJob(j wire.Job, cost wire.JobCost) error {
	err := p.facts([][2]string{
		{"id", j.ID}, {"pool", j.Pool}, {"name", j.Name}, {"team", j.Team}, {"user", j.User}, {"run again", j.RerunOf},
		{"state", string(j.State)}, {"reason", j.Reason}, {"exit code", exitText(j.ExitCode)},
		{"submitted", p.at(j.SubmittedAt)}, {"started", p.at(j.StartedAt)}, {"ended", p.at(j.EndedAt)},
		{"cost", jobCostText(cost)}, {"kept", j.Kept}, {"conflict", p.conflictText(j)},
	})
	if err != nil {
		return err
	}
	if w := j.Sweep; w != nil {
		fmt.Fprintln(p.Out, "members")
		t := newTable("<ALL <RUNNING <SUCCEEDED <FAILED ?1<TIMED_OUT ?2<CANCELLED <ENDED")
		t.add(w.Members, w.Running, w.Succeeded, w.Failed, w.TimedOut, w.Cancelled, fmt.Sprintf("%d%%", w.Percent))
		if err := t.write(p, "  "); err != nil {
			return err
		}
	}
	if len(j.Attempts) > 0 {
		fmt.Fprintln(p.Out, "attempts")
		t := newTable("<NUMBER ?2NODE *STATE ?1<EXIT ?3STARTED ?4TOOK REASON")
		for _, a := range j.Attempts {
			t.add(a.Number, a.Node, a.State, exitText(a.ExitCode), p.age(a.StartedAt), p.took(a.StartedAt, a.EndedAt), withCut(a.Reason, a.LogsCut))
			for _, r := range a.Ranks {
				t.add(fmt.Sprintf("rank %d", r.Rank), r.Node, r.State, exitText(r.ExitCode), p.age(r.StartedAt),
					p.took(r.StartedAt, r.EndedAt), withCut(r.Reason, r.LogsCut))
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

// jobCost is what a job has cost; nothing if that cannot be found: an instance of an earlier release does not say it.
func jobCost(ctx context.Context, s *session, j wire.Job) wire.JobCost {
	if j.StartedAt == nil && len(j.Attempts) == 0 {
		return wire.JobCost{}
	}
	cost, err := s.JobCost(ctx, j.ID)
	if err != nil {
		return wire.JobCost{}
	}
	return cost
}

// jobCostText says what a job has cost: "0.09 USD so far, 0.12 USD an hour, at most 0.24 USD"; "" = that is not known,
// or it costs nothing yet.
func jobCostText(c wire.JobCost) string {
	text := amountText(c.Cost)
	if c.PerHour == nil || text == "" {
		return text
	}
	text += " so far"
	if c.PerHour.Amount != usage.UnknownPrice {
		text += ", " + costText(c.PerHour) + " an hour"
	}
	if c.AtMost != nil && c.AtMost.Amount != usage.UnknownPrice {
		text += ", at most " + amountText(c.AtMost) + " if it takes its whole timeout"
	}
	return text
}

// amountText is an amount for people: to the hundredth, and what is less is not zero.
func amountText(c *wire.Cost) string {
	if c == nil || c.Amount == usage.UnknownPrice {
		return costText(c)
	}
	amount, ok := new(big.Rat).SetString(c.Amount)
	switch {
	case !ok:
		return costText(c)
	case amount.Cmp(big.NewRat(1, 100)) < 0:
		return "< 0.01 " + c.Currency
	}
	return amount.FloatString(2) + " " + c.Currency
}

// conflictText says that another document came under a job's id; "" = none did.
func (p *Program) conflictText(j wire.Job) string {
	if j.Conflict == nil {
		return ""
	}
	return fmt.Sprintf("another document came under this id and was rejected: %s; `dsvm rejected list --job %s` shows it while it is there",
		p.at(&j.Conflict.At), j.ID)
}

// withCut adds to the reason of an attempt what is missing in its logs.
func withCut(reason string, cut *job.LogsCut) string {
	if cut == nil {
		return reason
	}
	parts := []string{}
	if reason != "" {
		parts = append(parts, reason)
	}
	if cut.Stdout > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes of stdout are missing in its log", cut.Stdout))
	}
	if cut.Stderr > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes of stderr are missing in its log", cut.Stderr))
	}
	return strings.Join(parts, "; ")
}

func jobExplain(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "explain ID", Short: "Say why a job is where it is", Args: exactly("the ID of a job"),
		Example:           "  dsvm job explain nightly-42",
		ValidArgsFunction: firstOf(p.completeJobs),
		RunE: askAbout(p, "asking about job", (*session).Explain, func(e wire.Explanation) error {
			place := ""
			if e.Place > 0 {
				place = fmt.Sprintf("place in line: %d of %d", e.Place, e.Waiting)
			}
			lines := []string{fmt.Sprintf("%s: %s", e.State, e.Reason), place}
			for _, a := range e.After {
				lines = append(lines, afterText(a))
			}
			return p.lines(append(lines, waitsFor(e.Unblocks))...)
		}),
	}
}

// afterText says where a job is that another one comes after.
func afterText(a wire.AfterJob) string {
	if a.State == "" {
		return fmt.Sprintf("comes after: %s, of which nothing is known any more", a.ID)
	}
	return fmt.Sprintf("comes after: %s of pool %s, which is %s", a.ID, a.Pool, a.State)
}

// waitsFor is a line that says what somebody waits for; "" = for nothing.
func waitsFor(what string) string {
	if what == "" {
		return ""
	}
	return "waits for: " + what
}
