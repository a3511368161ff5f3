package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func pushCommand(p *Program) *cobra.Command {
	c := noun("push", "Say which Git pushes start which jobs", pushApply(p), pushList(p), pushShow(p), pushDelete(p), pushTest(p))
	c.Long = `Say which Git pushes start which jobs. docs/push.md leads from nothing to a green
check on a commit, for each Git host.`
	c.Example = "  dsvm push apply -f rules.yaml\n  dsvm push test --payload push.json"
	return c
}

func pushApply(p *Program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create rules, or change them to what a file says",
		Long: `Create rules, or change them to what a file says (YAML or JSON; - is standard
input): one rule, or several under ` + "`rules`" + `. Other rules stay as they are.
Prints the rules' names.`,
		Example: "  dsvm push apply -f rules.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return WrongUse("name the file that describes the rules: `dsvm push apply -f FILE`")
			}
			d, err := p.readDocument(file)
			if err != nil {
				return err
			}
			body, err := d.encode()
			if err != nil {
				return err
			}
			rules, err := ask(c.Context(), p, "applying the rules", func(ctx context.Context, s *session) ([]wire.Rule, error) {
				rules, err := s.ApplyRules(ctx, body)
				return rules, d.locate(err)
			})
			if err != nil {
				return err
			}
			for _, r := range rules {
				if r.Problem != "" {
					p.Say("%s: %s", r.Name, r.Problem)
				}
			}
			return p.answer(rules, words(rules, func(r wire.Rule) string { return r.Name })...)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file that describes the rules; - is standard input")
	return c
}

// rules asks for all rules.
func (p *Program) rules(ctx context.Context) ([]wire.Rule, error) {
	return ask(ctx, p, "asking for the rules", func(ctx context.Context, s *session) ([]wire.Rule, error) { return s.Rules(ctx) })
}

func pushList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the rules", Args: cobra.NoArgs,
		Example: "  dsvm push list\n  dsvm push list -o json",
		RunE: showList(
			p,
			"asking for the rules",
			(*session).Rules,
			"no rules; `dsvm push apply -f FILE` makes some",
			func(rules []wire.Rule) *table {
				t := newTable("NAME ?3PROVIDER ?1REPOSITORY ?2REFS <JOBS PROBLEM")
				for _, r := range rules {
					var jobs any = r.Jobs
					if r.FromFile {
						jobs = "file"
					}
					t.add(r.Name, r.Provider, r.Repository, refsText(r), jobs, r.Problem)
				}
				return t
			},
		),
	}
}

// refsText is which branches and tags a rule is for.
func refsText(r wire.Rule) string {
	var parts []string
	if len(r.Branches) > 0 {
		parts = append(parts, strings.Join(r.Branches, " "))
	}
	if len(r.Tags) > 0 {
		parts = append(parts, "tags "+strings.Join(r.Tags, " "))
	}
	if len(parts) == 0 {
		return "all branches"
	}
	return strings.Join(parts, ", ")
}

func pushShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show one rule", Args: exactly("the NAME of a rule"),
		Example:           "  dsvm push show train-main",
		ValidArgsFunction: firstOf(p.completeRules),
		RunE: askAbout(p, "asking for rule", (*session).Rule, func(rule wire.Rule) error {
			if err := p.facts([][2]string{{"name", rule.Name}, {"problem", rule.Problem}, {"changed", p.at(&rule.ChangedAt)}}); err != nil {
				return err
			}
			return p.spec(rule.Rule)
		}),
	}
}

func pushDelete(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a rule", Args: exactly("the NAME of a rule"),
		Long:              "Delete a rule. The jobs that it has started go on. Prints the rule's name.",
		Example:           "  dsvm push delete train-main",
		ValidArgsFunction: firstOf(p.completeRules),
		RunE: func(c *cobra.Command, args []string) error {
			err := p.with(c.Context(), "deleting rule "+args[0], func(ctx context.Context, s *session) error {
				return s.DeleteRule(ctx, args[0])
			})
			if err != nil {
				return err
			}
			return p.answer(map[string]string{"name": args[0]}, args[0])
		},
	}
}

// completeRules offers the names of rules.
func (p *Program) completeRules(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		rules, err := s.Rules(ctx)
		return words(rules, func(r wire.Rule) string { return r.Name + "\t" + r.Repository }), err
	})
}
