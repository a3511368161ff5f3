package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

func usageCommand(p *Program) *cobra.Command {
	var by, from, to string
	c := &cobra.Command{
		Use: "usage", Short: "Report what was used and what it cost", Args: cobra.NoArgs,
		Long: `Report what was used and what it cost, of all that ended from --from up to but
not including --to. Cost is what the jobs cost; waste is what the nodes cost
beyond that. Without --from it is the 30 days before --to.`,
		Example: "  dsvm usage\n  dsvm usage --by team --from 2026-01-01 --to 2026-02-01\n  dsvm usage --by job -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains(usage.Groupings, usage.Grouping(by)) {
				return WrongUse("--by is %q; it takes one of %s", by, strings.Join(groupings(), ", "))
			}
			begin, err := p.day("--from", from)
			if err != nil {
				return err
			}
			end, err := p.day("--to", to)
			if err != nil {
				return err
			}
			groups, err := ask(c.Context(), p, "adding up the usage", func(ctx context.Context, s *session) ([]wire.UsageGroup, error) {
				return s.Usage(ctx, by, begin, end)
			})
			if err != nil {
				return err
			}
			t := newTable(strings.ToUpper(by) + " <JOBS <HOURS <NODE-HOURS <COST <WASTE CURRENCY")
			for _, g := range groups {
				t.add(g.Key, g.Jobs, hours(g.Seconds), hours(g.NodeSeconds), g.Cost, g.Waste, g.Currency)
			}
			return p.list(groups, t, "nothing was used in this time")
		},
	}
	c.Flags().StringVar(&by, "by", string(usage.ByPool), "what to add up by: "+strings.Join(groupings(), ", "))
	c.Flags().StringVar(&from, "from", "", "day (2026-01-31) or time (2026-01-31T18:00:00Z) at which the report begins")
	c.Flags().StringVar(&to, "to", "", "day or time at which it ends, itself not included; now when not given")
	complete(c, "by", cobra.FixedCompletions(groupings(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func groupings() []string {
	var names []string
	for _, g := range usage.Groupings {
		names = append(names, string(g))
	}
	return names
}

// day reads a day, which begins at midnight UTC as those of the ledger do, or a
// time. "" is the zero time.
func (p *Program) day(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, WrongUse("%s is %q; it takes a day such as 2026-01-31, or a time such as 2026-01-31T18:00:00Z", flag, text)
}

// hours writes a length of time for a table; JSON has it exactly.
func hours(t usage.Ticks) string {
	return fmt.Sprintf("%.2f", float64(t)*usage.Tick.Hours())
}
