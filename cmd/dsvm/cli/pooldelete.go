package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
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
		ValidArgsFunction: firstOf(p.completePools),
		RunE: func(c *cobra.Command, args []string) error {
			before, err := p.confirmDelete(c.Context(), args[0], yes)
			if err != nil {
				return err
			}
			pool, err := ask(c.Context(), p, "deleting pool "+args[0], func(ctx context.Context, s *session) (wire.Pool, error) {
				return s.Delete(ctx, args[0])
			})
			if err != nil {
				return err
			}
			if pool.Name == "" { // it went at once
				pool = before
				pool.State, pool.Reason = wire.PoolDeleting, "the pool is gone"
			}
			return p.answer(pool, pool.Name)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// confirmDelete says what the deletion of a pool ends, and makes sure that somebody
// wants it.
func (p *Program) confirmDelete(ctx context.Context, name string, yes bool) (wire.Pool, error) {
	pool, err := ask(ctx, p, "asking for pool "+name, func(ctx context.Context, s *session) (wire.Pool, error) {
		return s.Pool(ctx, name)
	})
	if err != nil || yes && p.output == outputJSON { // a script does not read what it ends
		return pool, err
	}
	what := describeDeletion(pool)
	if !yes && !p.Asks {
		return pool, errNobodyToAsk(what)
	}
	p.Say("%s", what)
	if yes {
		return pool, nil
	}
	return pool, p.askYesNo("Delete pool " + name + "?")
}

// errNobodyToAsk is the refusal of a deletion in a script that does not say --yes.
func errNobodyToAsk(what string) error {
	return WrongUse("nothing was deleted, since nobody can be asked here; with --yes, %s", what)
}

// askYesNo asks whether to delete; nil is a yes.
func (p *Program) askYesNo(question string) error {
	answer, err := p.Ask(question + " [y/N]")
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	case "":
		if err != nil {
			fmt.Fprintln(p.Err)
		}
	}
	return &Exit{Code: codeFailure, Err: errors.New("nothing was deleted")}
}

// describeDeletion says what goes with a pool, and what stays.
func describeDeletion(pool wire.Pool) string {
	return fmt.Sprintf(
		"pool %q is deleted with %s, and %s and %s end as cancelled: how its jobs ended, their logs and outputs, "+
			"and its usage stay for as long as each is kept",
		pool.Name, count(pool.Nodes.Total, "node"), count(pool.Queued, "waiting job"), count(pool.Running, "running job"))
}

// count is a number of things in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
