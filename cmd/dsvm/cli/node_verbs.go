package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// nodeVerb is a command that changes one node.
type nodeVerb struct {
	doing string // "draining"
	// confirm makes sure that somebody wants it; nil = nobody needs to.
	confirm func(ctx context.Context, pool, node string) error
	request func(s *session, ctx context.Context, pool, node string) (wire.Node, error)
	// judge looks at the node as it is now: it returns an error when the verb had no
	// effect, and may write a note.
	judge func(*Program, wire.Node) error
}

// command completes a command with the verb.
func (v nodeVerb) command(p *Program, c *cobra.Command) *cobra.Command {
	var pool string
	c.Args = exactly("the NAME or the id of a node")
	c.ValidArgsFunction = firstOf(p.completeNodes)
	c.Flags().StringVar(&pool, "pool", "", "only a node of this pool")
	complete(c, "pool", p.completePools)
	c.RunE = func(c *cobra.Command, args []string) error {
		if v.confirm != nil {
			if err := v.confirm(c.Context(), pool, args[0]); err != nil {
				return err
			}
		}
		n, err := ask(c.Context(), p, v.doing+" node "+args[0], func(ctx context.Context, s *session) (wire.Node, error) {
			return v.request(s, ctx, pool, args[0])
		})
		if err != nil {
			return err
		}
		if err := p.answer(n, stateOf(n)); err != nil {
			return err
		}
		return v.judge(p, n)
	}
	return c
}

// stateOf is a node's state with its reason.
func stateOf(n wire.Node) string {
	if n.Reason != "" {
		return string(n.State) + ": " + n.Reason
	}
	return string(n.State)
}

// takesWork returns an error when a node will take no work.
func takesWork(_ *Program, n wire.Node) error {
	switch n.State {
	case pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy:
		return nil
	case pool.NodeGone:
		return fmt.Errorf("node %q is gone; `dsvm node list` shows the nodes", n.Name)
	default: // it is on its way out
	}
	return fmt.Errorf("node %q is %s and cannot take work again; its pool asks for another node when work waits", n.Name, n.State)
}

// noteGone notes that there was nothing to do. A script that asks twice gets no error.
func noteGone(p *Program, n wire.Node) error {
	if n.State == pool.NodeGone {
		p.Say("node %q is gone already", n.Name)
	}
	return nil
}

func nodeRelease(p *Program) *cobra.Command {
	v := nodeVerb{doing: "releasing", request: (*session).ReleaseNode, judge: takesWork}
	return v.command(p, &cobra.Command{
		Use: "release NODE", Short: "Let a node take work again that is quarantined or drained",
		Long: `Let a node take work again that is quarantined, or that was drained and has not
left yet. What stood against it is forgotten: it is quarantined again only after
it has failed as many jobs again. For a node that takes work nothing else changes;
one that is on its way out cannot come back, and the exit code is 1. Prints the
node's state.`,
		Example: "  dsvm node release dsvm-cpu-d4s-v5_3",
	})
}

func nodeDrain(p *Program) *cobra.Command {
	v := nodeVerb{doing: "draining", request: (*session).DrainNode, judge: noteGone}
	return v.command(p, &cobra.Command{
		Use: "drain NODE", Short: "Give a node no more work, and let it leave",
		Long: `Give a node no more work. What runs there ends by itself, then the node is
deleted; until then, dsvm node release takes it back. A node that is leaving
already is left alone. Prints the node's state.`,
		Example: "  dsvm node drain dsvm-cpu-d4s-v5_3",
	})
}

func nodeDelete(p *Program) *cobra.Command {
	var yes bool
	v := nodeVerb{doing: "deleting", request: (*session).DeleteNode, judge: noteGone}
	v.confirm = func(ctx context.Context, pool, node string) error {
		if yes {
			return nil
		}
		return p.confirmNodeDelete(ctx, pool, node)
	}
	c := v.command(p, &cobra.Command{
		Use: "delete NODE", Short: "Delete a node now",
		Long: `Delete a node now. What runs there is ended and goes back to its place in line, at
the cost of no retry; it begins from the start on another node. For a node that
is lost, failed or leaving already, its deletion is asked for once more. Prints
the node's state.

It says what this ends, and asks on a terminal; anywhere else it takes --yes.`,
		Example: "  dsvm node delete dsvm-cpu-d4s-v5_3\n  dsvm node delete dsvm-cpu-d4s-v5_3 --yes -o json",
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// confirmNodeDelete asks whether to delete a node, and says what that ends.
func (p *Program) confirmNodeDelete(ctx context.Context, pool, node string) error {
	nodes, err := p.nodes(ctx, pool)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Name != node && n.ID != strings.ToLower(node) {
			continue
		}
		ends, err := p.whatDeletionEnds(ctx, n)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("node %q of pool %q, which is %s, is deleted, and %s", n.Name, n.Pool, n.State, ends)
		if !p.Asks {
			return errNobodyToAsk(what)
		}
		p.Say("%s", what)
		return p.askYesNo("Delete node " + n.Name + "?")
	}
	return nil // the instance says what is wrong with the name
}

// whatDeletionEnds says what becomes of what has a place on a node that is deleted.
func (p *Program) whatDeletionEnds(ctx context.Context, n wire.Node) (string, error) {
	of, err := ask(ctx, p, "asking for pool "+n.Pool, func(ctx context.Context, s *session) (wire.Pool, error) { return s.Pool(ctx, n.Pool) })
	if err != nil {
		return "", err
	}
	isOne := n.Jobs == 1
	if of.Kind == pool.KindInteractive {
		return count(n.Jobs, "session") + " on it " + map[bool]string{true: "ends", false: "end"}[isOne], nil
	}
	return count(n.Jobs, "job") + " on it " + map[bool]string{true: "begins", false: "begin"}[isOne] + " again on other nodes", nil
}
