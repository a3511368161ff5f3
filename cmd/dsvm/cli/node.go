package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

func nodeCommand(p *Program) *cobra.Command {
	return noun("node", "Look at nodes, release, drain and delete them", nodeList(p), nodeRelease(p), nodeDrain(p), nodeDelete(p))
}

func nodeList(p *Program) *cobra.Command {
	var pool string
	c := &cobra.Command{
		Use: "list", Short: "List the nodes of all pools, or of one", Args: cobra.NoArgs,
		Example: "  dsvm node list\n  dsvm node list --pool cpu -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			var nodes []wire.Node
			err := p.with(c.Context(), "asking for the nodes", func(ctx context.Context, s *session) (err error) {
				nodes, err = s.Nodes(ctx, pool)
				return err
			})
			if err != nil {
				return err
			}
			t := newTable("NAME POOL SIZE *STATE <CPUS <JOBS SINCE HEARD <PRICE/H REASON")
			for _, n := range nodes {
				t.add(n.Name, n.Pool, n.Size, n.State, cpusText(n.CPUs), n.Jobs, p.ago(n.Since), p.ago(n.HeardAt), price(n), n.Reason)
			}
			return p.list(nodes, t, "no nodes; a pool has none while it has no work")
		},
	}
	c.Flags().StringVar(&pool, "pool", "", "only the nodes of this pool")
	complete(c, "pool", p.completePools)
	return c
}

func cpusText(n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func price(n wire.Node) string {
	if n.PricePerHour == usage.UnknownPrice {
		return n.PricePerHour
	}
	return strings.TrimSpace(n.PricePerHour + " " + n.Currency)
}
