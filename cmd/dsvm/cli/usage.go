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

// usageFlags are those of a report.
type usageFlags struct {
	by, sort, from, to string
	labels             []string
	limit              int
	filter             usage.Filter
}

func usageCommand(p *Program) *cobra.Command {
	var f usageFlags
	c := &cobra.Command{
		Use: "usage", Short: "Report what was used and what it cost", Args: cobra.NoArgs, Annotations: map[string]string{outputCSV: "yes"},
		Long: `Report what was used and what it cost, of all that ended from --from up to but
not including --to, and of what still runs. Cost is what the jobs cost; waste is
what the nodes cost beyond that. A session of a person counts as a job. Without --from
it begins at midnight (UTC) 30 days before --to.

--from and --to take how long ago (7d, 12h), today, yesterday, a day (2026-01-31) or
a time (2026-01-31T18:00:00Z). Days are those of UTC, as in the ledger.

What still runs counts up to now if --to is not before now; a line on standard error
says how much of it there is. The totals are of all lines, also of those that --limit
leaves out. Nodes belong to no team, user or label: with these filters there is no
waste.

--by takes two keys as well, with a comma between them. With -o csv the lines are CSV
(RFC 4180) without totals; a text that a spreadsheet would take for a formula has an
apostrophe before it.`,
		Example: "  dsvm usage\n  dsvm usage --by team --from 2026-01-01 --to 2026-02-01\n" +
			"  dsvm usage --by job --sort cost --limit 10 --from 7d\n  dsvm usage --by label:project --pool gpu --from today -o json\n" +
			"  dsvm usage --by month,team --from 2026-01-01 -o csv",
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := f.query(p)
			if err != nil {
				return err
			}
			report, err := ask(c.Context(), p, "adding up the usage", func(ctx context.Context, s *session) (wire.UsageReport, error) {
				return s.Usage(ctx, q, f.limit)
			})
			if err != nil {
				return err
			}
			return p.showUsage(q, report)
		},
	}
	c.Flags().StringVar(&f.by, "by", string(usage.ByPool),
		"what to add up by: "+strings.Join(namesOf(usage.Groupings), ", ")+", label:NAME, or two of them such as day,team")
	c.Flags().StringVar(&f.sort, "sort", string(usage.OrderKey),
		"what to sort by, the largest first: "+strings.Join(namesOf(usage.Orders), ", "))
	c.Flags().StringVar(&f.from, "from", "", "when the report begins: 7d (ago), today, a day or a time")
	c.Flags().StringVar(&f.to, "to", "", "when it ends, itself not included; now when not given")
	c.Flags().IntVar(&f.limit, "limit", 0, "lines at most; 0 for all")
	c.Flags().StringVar(&f.filter.Pool, "pool", "", "only what was used in this pool")
	c.Flags().StringVar(&f.filter.Team, "team", "", "only jobs of this team")
	c.Flags().StringVar(&f.filter.User, "user", "", "only jobs of this user")
	c.Flags().StringArrayVar(&f.labels, "label", nil, "only jobs with this label, NAME=VALUE; may be repeated")
	complete(c, "by", cobra.FixedCompletions(append(namesOf(usage.Groupings), "label:"), cobra.ShellCompDirectiveNoFileComp))
	complete(c, "sort", cobra.FixedCompletions(namesOf(usage.Orders), cobra.ShellCompDirectiveNoFileComp))
	complete(c, "pool", p.completePools)
	c.AddCommand(usageCheckCommand(p), usageRebuildCommand(p))
	return c
}

func usageRebuildCommand(p *Program) *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use: "rebuild", Short: "Build the sums that reports are made of again", Args: cobra.NoArgs,
		Long: `Build the sums again that reports are made of, from the rows of the ledger:
after rows were corrected, or came from a copy.
Without --from and --to it builds those of all days. It may be run at any time, and
again if it was cut off; it replaces the sums of a pool and day at once.

A deployment that has a ledger from before there were sums builds them by itself.`,
		Example: "  dsvm usage rebuild\n  dsvm usage rebuild --from 2026-01-31 --to 2026-02-01",
		RunE: func(c *cobra.Command, _ []string) error {
			var q wire.SumsQuery
			var err error
			if q.From, q.To, err = p.period([2]string{"--from", from}, [2]string{"--to", to}, time.UTC); err != nil {
				return err
			}
			done, err := ask(c.Context(), p, "building the sums", func(ctx context.Context, s *session) (wire.SumsRebuilt, error) {
				return s.RebuildSums(ctx, q)
			})
			if err != nil {
				return err
			}
			if p.output == outputJSON {
				return p.json(done)
			}
			p.Say("built the sums of %s from %s of the ledger", count(done.Days, "day"), count(done.Rows, "row"))
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", "", "the first day: 7d (ago), today, a day or a time; all when not given")
	c.Flags().StringVar(&to, "to", "", "when they end, itself not included; all when not given")
	return c
}

// query reads the flags.
func (f *usageFlags) query(p *Program) (q usage.Query, err error) {
	q = usage.Query{By: usage.Grouping(f.by), Order: usage.Order(f.sort), Filter: f.filter}
	if err := usage.CheckGrouping(q.By); err != nil {
		return q, WrongUse("--by: %v", err)
	}
	if !slices.Contains(usage.Orders, q.Order) {
		return q, WrongUse("--sort is %q; it takes one of %s", f.sort, strings.Join(namesOf(usage.Orders), ", "))
	}
	if f.limit < 0 {
		return q, WrongUse("--limit is %d; it takes a number from 1 up, or 0 for all", f.limit)
	}
	if q.Filter.Labels, err = readLabels(f.labels); err != nil {
		return q, err
	}
	q.From, q.To, err = p.period([2]string{"--from", f.from}, [2]string{"--to", f.to}, time.UTC) // as the days of the ledger
	return q, err
}

// showUsage prints the lines of a report, and its totals below them. JSON has the lines alone.
func (p *Program) showUsage(q usage.Query, report wire.UsageReport) error {
	if p.output == outputCSV {
		return usage.WriteCSV(p.Out, q.By, report.Items)
	}
	parts := q.By.Parts()
	headings := make([]string, len(parts))
	for i, part := range parts {
		headings[i] = strings.ToUpper(headingOf(part))
	}
	t := newTable(strings.Join(headings, " ") + " <JOBS ?<HOURS ?<NODE-HOURS <COST <WASTE CURRENCY")
	lines := report.Items
	if len(lines) > 0 {
		lines = slices.Concat(lines, report.Totals)
	}
	costs := sameDecimals(words(lines, func(g wire.UsageGroup) string { return g.Cost }))
	wastes := sameDecimals(words(lines, func(g wire.UsageGroup) string { return g.Waste }))
	for i, g := range lines {
		cells := make([]any, len(parts), len(parts)+6)
		for i, key := range g.Keys() {
			cells[i] = key
		}
		if i >= len(report.Items) {
			cells[0] = "TOTAL"
			for i := range cells[1:] {
				cells[i+1] = cell{}
			}
		}
		t.add(append(cells, g.Jobs, hours(g.Seconds), hours(g.NodeSeconds), costs[i], wastes[i], g.Currency)...)
	}
	err := p.list(report.Items, t,
		"nothing was used in this time; a job is in the report as soon as it has started, and a node as soon as it is billed")
	if err != nil || p.output == outputJSON {
		return err
	}
	if report.Lines > len(report.Items) {
		p.Say("%s of %s lines shown; the totals are of all", thousands(len(report.Items)), thousands(report.Lines))
	}
	if open := report.Open; open.Attempts+open.Nodes > 0 {
		var running []string
		if open.Attempts > 0 {
			running = append(running, count(open.Attempts, "attempt"))
		}
		if open.Nodes > 0 {
			running = append(running, count(open.Nodes, "node"))
		}
		p.Say("still running, and counted up to now: %s", strings.Join(running, " and "))
	}
	return nil
}

// headingOf is the name of a column with keys.
func headingOf(by usage.Grouping) string {
	label, ok := by.LabelName()
	switch {
	case !ok:
		return string(by)
	case strings.ContainsAny(label, " <*?"):
		return "label"
	}
	return label
}

// hours writes a length of time for a table; JSON has it exactly.
func hours(t usage.Ticks) string {
	return fmt.Sprintf("%.2f", float64(t)*usage.Tick.Hours())
}
