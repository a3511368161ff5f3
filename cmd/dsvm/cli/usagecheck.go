package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func usageCheckCommand(p *Program) *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use: "check", Short: "Compare the sums that reports are made of with the ledger", Args: cobra.NoArgs,
		Long: `Add up the rows of the ledger again, and compare them with the sums that reports
are made of: number of rows, time and money, as exact fractions, for each pool, day,
team, user, size and price. It writes nothing, and may run while the system works.

Without --from and --to it compares all days. It ends with 1 if there is a difference,
and prints a line for each pool, day and currency that has one.`,
		Example: "  dsvm usage check\n  dsvm usage check --from 2026-01-01 --to 2026-02-01",
		RunE: func(c *cobra.Command, _ []string) error {
			var q wire.SumsQuery
			var err error
			if q.From, q.To, err = p.period([2]string{"--from", from}, [2]string{"--to", to}, time.UTC); err != nil {
				return err
			}
			found, err := ask(c.Context(), p, "comparing the sums", func(ctx context.Context, s *session) (wire.SumsChecked, error) {
				return s.CheckSums(ctx, q)
			})
			if err != nil {
				return err
			}
			return p.showSumsChecked(found)
		},
	}
	c.Flags().StringVar(&from, "from", "", "the first day: 7d (ago), today, a day or a time; all when not given")
	c.Flags().StringVar(&to, "to", "", "when they end, itself not included; all when not given")
	return c
}

// showSumsChecked prints the differences, and ends with an error if there is one.
func (p *Program) showSumsChecked(found wire.SumsChecked) error {
	t := newTable("POOL DAY CURRENCY <ROWS <IN_SUMS ?1<COST ?1<IN_SUMS ?2<PAID ?2<IN_SUMS")
	for _, d := range found.Differences {
		t.add(d.Pool, d.Day, d.Currency, d.Rows[0], d.Rows[1], d.Cost[0], d.Cost[1], d.Paid[0], d.Paid[1])
	}
	compared := fmt.Sprintf("%s with %s of the ledger", count(found.Days, "day"), count(found.Rows, "row"))
	if p.output == outputJSON {
		if err := p.json(found); err != nil {
			return err
		}
	} else if len(found.Differences) > 0 {
		if err := t.write(p, ""); err != nil {
			return err
		}
	} else {
		p.Say("no difference in %s", compared)
	}
	if n := len(found.Differences); n > 0 {
		return fmt.Errorf("%s in %s; `dsvm usage rebuild` builds the sums again", count(n, "difference"), compared)
	}
	return nil
}
