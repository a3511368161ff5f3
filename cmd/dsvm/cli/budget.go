package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func budgetCommand(p *Program) *cobra.Command {
	c := noun("budget", "Say how much work may cost, and what happens then",
		budgetApply(p), budgetList(p), budgetShow(p), budgetRaise(p), budgetDelete(p))
	c.Long = `Say how much the work of a team, a user, a pool or a label may cost in a month, a
quarter or a year, and what happens on the way there. docs/budgets.md shows the
documents.`
	c.Example = "  dsvm budget apply -f vision.yaml\n  dsvm budget list"
	return c
}

func budgetApply(p *Program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create budgets, or change them to what a file says",
		Long: `Create budgets, or change them to what a file says (YAML or JSON; - is standard
input): one budget, or several under ` + "`budgets`" + `. Other budgets stay as they are.
Prints the budgets' names.`,
		Example: "  dsvm budget apply -f vision.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return WrongUse("name the file that describes the budgets: `dsvm budget apply -f FILE`")
			}
			d, err := p.readDocument(file)
			if err != nil {
				return err
			}
			body, err := d.encode()
			if err != nil {
				return err
			}
			budgets, err := ask(c.Context(), p, "applying the budgets", func(ctx context.Context, s *session) ([]wire.Budget, error) {
				budgets, err := s.ApplyBudgets(ctx, body)
				return budgets, d.locate(err)
			})
			if err != nil {
				return err
			}
			return p.answer(budgets, words(budgets, func(b wire.Budget) string { return b.Name })...)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file that describes the budgets; - is standard input")
	return c
}

func budgetList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the budgets and what is spent of them", Args: cobra.NoArgs,
		Example: "  dsvm budget list\n  dsvm budget list -o json",
		RunE: showList(
			p,
			"asking for the budgets",
			(*session).Budgets,
			"no budgets; `dsvm budget apply -f FILE` makes some",
			func(budgets []wire.Budget) *table {
				t := newTable("NAME ?2SCOPE *LEVEL <SPENT <AMOUNT CURRENCY ?3PERIOD ?1PROBLEM")
				for _, b := range budgets {
					t.add(b.Name, scopeText(b), b.Level, spentText(b), b.Amount, b.Currency, b.Period, b.Problem)
				}
				return t
			},
		),
	}
}

// scopeText is whose work a budget is about; "" = its document cannot be read.
func scopeText(b wire.Budget) string {
	if b.Problem != "" {
		return ""
	}
	return b.Scope.String()
}

// spentText is what is spent of a budget.
func spentText(b wire.Budget) string {
	if b.AtLeast {
		return "at least " + b.Spent
	}
	return b.Spent
}

func budgetShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show one budget, with what the period is expected to cost", Args: exactly("the NAME of a budget"),
		Example:           "  dsvm budget show vision",
		ValidArgsFunction: firstOf(p.completeBudgets),
		RunE: askAbout(p, "asking for budget", (*session).Budget, func(b wire.Budget) error {
			expected := ""
			if f := b.Forecast; f != nil {
				expected = fmt.Sprintf("%s to %s, about %s %s", f.Low, f.High, f.Expected, b.Currency)
			}
			spent := spentText(b)
			if spent != "" {
				spent += fmt.Sprintf(" of %s %s for %s", b.Amount, b.Currency, b.Period)
			}
			facts := [][2]string{
				{"name", b.Name}, {"scope", scopeText(b)}, {"level", b.Level}, {"since", p.at(b.Since)}, {"spent", spent},
				{"expected", expected}, {"period ends", p.at(b.To)}, {"as of", p.at(b.AsOf)}, {"problem", b.Problem}, {"changed", p.at(&b.ChangedAt)},
			}
			if err := p.facts(facts); err != nil {
				return err
			}
			return p.spec(b.Budget)
		}),
	}
}

func budgetRaise(p *Program) *cobra.Command {
	var raise wire.BudgetRaise
	c := &cobra.Command{
		Use: "raise NAME", Short: "Give a budget a higher amount", Args: exactly("the NAME of a budget"),
		Long: `Give a budget a higher amount, for this period and those to come. What it held goes
on at once, if the new amount allows it. Prints the budget's name.`,
		Example:           "  dsvm budget raise vision --to 1500\n  dsvm budget raise vision --by 200",
		ValidArgsFunction: firstOf(p.completeBudgets),
		RunE: func(c *cobra.Command, args []string) error {
			if (raise.To == "") == (raise.By == "") {
				return WrongUse("say the new amount with --to, or how much it is more with --by")
			}
			b, err := ask(c.Context(), p, "raising budget "+args[0], func(ctx context.Context, s *session) (wire.Budget, error) {
				return s.RaiseBudget(ctx, args[0], raise)
			})
			if err != nil {
				return err
			}
			return p.answer(b, b.Name)
		},
	}
	c.Flags().StringVar(&raise.To, "to", "", "the new amount")
	c.Flags().StringVar(&raise.By, "by", "", "how much it is more")
	return c
}

func budgetDelete(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a budget", Args: exactly("the NAME of a budget"),
		Long:              "Delete a budget. What it held goes on. Prints the budget's name.",
		Example:           "  dsvm budget delete vision",
		ValidArgsFunction: firstOf(p.completeBudgets),
		RunE: func(c *cobra.Command, args []string) error {
			err := p.with(c.Context(), "deleting budget "+args[0], func(ctx context.Context, s *session) error {
				return s.DeleteBudget(ctx, args[0])
			})
			if err != nil {
				return err
			}
			return p.answer(map[string]string{"name": args[0]}, args[0])
		},
	}
}

// completeBudgets offers the names of budgets.
func (p *Program) completeBudgets(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		budgets, err := s.Budgets(ctx)
		return words(budgets, func(b wire.Budget) string { return b.Name + "\t" + scopeText(b) }), err
	})
}
