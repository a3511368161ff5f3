package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

func nodeCommand(p *Program) *cobra.Command {
	c := noun("node", "Look at nodes, come to them, release, drain and delete them",
		nodeList(p), nodeConsole(p), nodeSSH(p), nodeRelease(p), nodeDrain(p), nodeDelete(p))
	c.Example = `  dsvm node list --pool cpu
  dsvm node drain dsvm-cpu-d4s-v5_3`
	return c
}

// nodeColumns are those of a list of nodes.
const nodeColumns = "NAME ?2POOL ?3SIZE *STATE ?8<CPUS ?1<JOBS ?9SINCE ?5HEARD ?6<PRICE/H REASON"

func nodeList(p *Program) *cobra.Command {
	var pool string
	c := &cobra.Command{
		Use: "list", Short: "List the nodes of all pools, or of one", Args: noArgsBut("--pool"),
		Long: `List the nodes of all pools, or of one. JOBS counts what has a place on a node:
jobs, and on nodes of an interactive pool the sessions of people.`,
		Example: "  dsvm node list\n  dsvm node list --pool cpu -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			nodes, err := p.nodes(c.Context(), pool)
			if err != nil {
				return err
			}
			t := newTable(nodeColumns)
			for _, n := range nodes {
				t.add(n.Name, n.Pool, sizeCell(n.Size), n.State, cpusText(n.CPUs), n.Jobs, p.age(n.Since), p.age(n.HeardAt),
					price(n), cmp.Or(n.Reason, strings.Join(missingTexts(n.Missing), "; ")))
			}
			return p.list(nodes, t, "no nodes; a pool has none while it has no work")
		},
	}
	c.Flags().StringVar(&pool, "pool", "", "only the nodes of this pool")
	complete(c, "pool", p.completePools)
	return c
}

// nodes asks for the nodes of a pool, or of all for "".
func (p *Program) nodes(ctx context.Context, pool string) ([]wire.Node, error) {
	return ask(ctx, p, "asking for the nodes", func(ctx context.Context, s *session) ([]wire.Node, error) {
		return s.Nodes(ctx, pool)
	})
}

// sizeCell is the size of a VM. On a narrow terminal it goes without the prefix that
// almost all sizes have.
func sizeCell(size string) cell {
	return cell{size, strings.TrimPrefix(size, "Standard_")}
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
