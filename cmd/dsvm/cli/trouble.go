package cli

import (
	"context"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func troubleCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "trouble", Short: "List what somebody must do something about", Args: cobra.NoArgs,
		Long: `List what somebody must do something about, with the next step: a quota that is
used up, nodes that do not come up or are broken and billed, rejected messages, use
that is not recorded. What mends itself is not in the list, and what is mended
leaves it. The exit code is 0 also if there is trouble.`,
		Example: "  dsvm trouble\n  dsvm trouble -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := ask(c.Context(), p, "asking for troubles", func(ctx context.Context, s *session) ([]wire.Trouble, error) {
				return s.Troubles(ctx)
			})
			if err != nil {
				return err
			}
			t := newTable("KIND ABOUT SINCE TROUBLE ?DO")
			for _, one := range all {
				t.add(one.Kind, one.About, p.age(one.Since), one.Text, one.Do)
			}
			return p.list(all, t, "no trouble")
		},
	}
}
