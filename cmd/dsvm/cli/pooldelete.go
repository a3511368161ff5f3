package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dsvmpools/shared/api"

	"github.com/spf13/cobra"
)

func poolDelete(p *Program) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a pool and its nodes", Args: exactly("the NAME of a pool"),
		Long: `Delete a pool and its nodes. It says what this ends and what stays, and asks on a
terminal; anywhere else it takes --yes. The pool takes no more jobs from then on;
its jobs end as cancelled, and dsvm pool list shows it until its last node is
gone. Prints the pool's name.`,
		Example:           "  dsvm pool delete cpu\n  dsvm pool delete cpu --yes",
		ValidArgsFunction: p.completePools,
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.confirmDelete(c.Context(), args[0], yes); err != nil {
				return err
			}
			var pool api.Pool
			err := p.with(c.Context(), "deleting pool "+args[0], func(ctx context.Context, s *session) (err error) {
				pool, err = s.Delete(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if pool.Name == "" { // it went at once
				pool = api.Pool{Name: args[0], State: api.PoolDeleting, Reason: "the pool is gone"}
			}
			return p.answer(pool, pool.Name)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// confirmDelete says what the deletion of a pool ends, and makes sure that somebody
// wants it.
func (p *Program) confirmDelete(ctx context.Context, name string, yes bool) error {
	if yes && p.output == "json" {
		return nil // a script does not read it
	}
	var pool api.Pool
	err := p.with(ctx, "asking for pool "+name, func(ctx context.Context, s *session) (err error) {
		pool, err = s.Pool(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	what := deletes(pool)
	if !yes && !p.Asks {
		return wrongUse("%s\nNothing was deleted, since nobody can be asked here; add --yes to do it", what)
	}
	fmt.Fprintln(p.Err, plainLines(what))
	if yes || agreed(p.In, p.Err, "Delete pool "+name+"?") {
		return nil
	}
	return &Exit{Code: codeFailure, Err: errors.New("nothing was deleted")}
}

// deletes says what goes with a pool, and what stays.
func deletes(pool api.Pool) string {
	return fmt.Sprintf("This ends %s and %s as cancelled, and removes pool %s with %s.\nWhat stays: how its jobs ended, their logs and outputs, and its usage, for as long as each is kept.",
		some(pool.Queued, "waiting job"), some(pool.Running, "running job"), pool.Name, some(pool.Nodes.Total, "node"))
}

// some is a number of things in words.
func some(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// plainLines makes each line safe to print.
func plainLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}
