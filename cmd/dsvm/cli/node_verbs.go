package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

// nodeVerb is a command that says something to one node.
func (p *Program) nodeVerb(c *cobra.Command, doing string, sure func(ctx context.Context, pool, node string) error,
	tell func(ctx context.Context, s *session, pool, node string) (wire.Node, error)) *cobra.Command {
	var pool string
	c.Args = exactly("the NAME or the id of a node")
	c.ValidArgsFunction = p.completeNodes
	c.Flags().StringVar(&pool, "pool", "", "only a node of this pool")
	complete(c, "pool", p.completePools)
	c.RunE = func(c *cobra.Command, args []string) error {
		if sure != nil {
			if err := sure(c.Context(), pool, args[0]); err != nil {
				return err
			}
		}
		var n wire.Node
		err := p.with(c.Context(), doing+" node "+args[0], func(ctx context.Context, s *session) (err error) {
			n, err = tell(ctx, s, pool, args[0])
			return err
		})
		if err != nil {
			return err
		}
		line := string(n.State)
		if n.Reason != "" {
			line += ": " + n.Reason
		}
		return p.answer(n, line)
	}
	return c
}

func nodeRelease(p *Program) *cobra.Command {
	return p.nodeVerb(&cobra.Command{
		Use: "release NODE", Short: "Let a node take work again that is quarantined or drained",
		Long: `Let a node take work again that is quarantined, or that was drained and has not
left yet. What stood against it is forgotten: it is quarantined again only after
it has failed as many jobs again. For any other node nothing else changes. Prints
the node's state.`,
		Example: "  dsvm node release dsvm-cpu-d4s-v5_3",
	}, "releasing", nil, func(ctx context.Context, s *session, pool, node string) (wire.Node, error) {
		return s.ReleaseNode(ctx, pool, node)
	})
}

func nodeDrain(p *Program) *cobra.Command {
	return p.nodeVerb(&cobra.Command{
		Use: "drain NODE", Short: "Give a node no more work, and let it leave",
		Long: `Give a node no more work. What runs there ends by itself, then the node is
deleted; until then, dsvm node release takes it back. A node that is leaving
already is left alone. Prints the node's state.`,
		Example: "  dsvm node drain dsvm-cpu-d4s-v5_3",
	}, "draining", nil, func(ctx context.Context, s *session, pool, node string) (wire.Node, error) {
		return s.DrainNode(ctx, pool, node)
	})
}

func nodeDelete(p *Program) *cobra.Command {
	var yes bool
	c := p.nodeVerb(&cobra.Command{
		Use: "delete NODE", Short: "Delete a node now",
		Long: `Delete a node now. What runs there is ended and goes back to its place in line, at
the cost of no retry; it begins from the start on another node. For a node that
is lost, failed or leaving already, its deletion is asked for once more. Prints
the node's state.

It says what this ends, and asks on a terminal; anywhere else it takes --yes.`,
		Example: "  dsvm node delete dsvm-cpu-d4s-v5_3\n  dsvm node delete dsvm-cpu-d4s-v5_3 --yes -o json",
	}, "deleting", func(ctx context.Context, pool, node string) error {
		if yes {
			return nil
		}
		return p.sureOfNode(ctx, pool, node)
	}, func(ctx context.Context, s *session, pool, node string) (wire.Node, error) {
		return s.DeleteNode(ctx, pool, node)
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// sureOfNode asks whether a node is to be deleted, with what that ends.
func (p *Program) sureOfNode(ctx context.Context, pool, node string) error {
	var nodes []wire.Node
	err := p.with(ctx, "asking for the nodes", func(ctx context.Context, s *session) (err error) {
		nodes, err = s.Nodes(ctx, pool)
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Name != node && n.ID != strings.ToLower(node) {
			continue
		}
		what := fmt.Sprintf("Node %s of pool %s is %s and will be deleted; %s on it will begin again on other nodes.",
			n.Name, n.Pool, n.State, some(n.Jobs, "job"))
		if !p.Asks {
			return nobodyToAsk(what)
		}
		fmt.Fprintln(p.Err, plain(what))
		return p.agreed("Delete node " + n.Name + "?")
	}
	return nil // the instance says what is wrong with the name
}
