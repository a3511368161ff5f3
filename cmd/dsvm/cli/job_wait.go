package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func jobWait(p *Program) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait ID...",
		Short: "Wait for jobs and end as they do",
		Long: `Wait for a job, print the state it ends in, and end as it does: with its exit
code, with 124 when it timed out, with 130 when it was cancelled, and with 125
when the platform ended it in another way. --timeout gives up waiting, with 1,
and leaves the job alone.

With several ids it waits for all of them. Each line begins with its job, -o json
prints a list, and the exit code is 1 when one of them has not succeeded.`,
		Example:           "  dsvm job wait nightly-42\n  dsvm job wait tune.3 tune.7\n  dsvm job wait nightly-42 --timeout 10m -o json",
		Args:              severalOf("the ID of a job"),
		ValidArgsFunction: eachOf(p.completeJobs),
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
			if len(args) > 1 {
				return s.explain(p.waitForAll(ctx, c, s, args, timeout))
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
	c.Flags().Var(length{&timeout}, "timeout", "how long to wait, such as 90s, 10m, 2h, 1d (default: as long as it takes)")
	return c
}

// wait looks at a job until it has ended.
func (p *Program) wait(ctx context.Context, s *session, id string) (wire.Job, error) {
	news := p.newStory()
	for {
		j, err := look(ctx, s, id)
		if err != nil || j.State.Final() {
			return j, err
		}
		news.writeNews(j)
		if err := pause(ctx, lookEvery); err != nil {
			return j, err
		}
	}
}
