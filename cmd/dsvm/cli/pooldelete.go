package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
		ValidArgsFunction: p.completePools,
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
	if err != nil || yes && p.output == "json" { // a script does not read what it ends
		return pool, err
	}
	what := describeDeletion(pool)
	if !yes && !p.Asks {
		return pool, errNobodyToAsk(what)
	}
	fmt.Fprintln(p.Err, plainLines(what))
	if yes {
		return pool, nil
	}
	return pool, p.askYesNo("Delete pool " + name + "?")
}

// errNobodyToAsk is the refusal of a deletion in a script that does not say --yes.
func errNobodyToAsk(what string) error {
	return WrongUse("%s\nNothing was deleted, since nobody can be asked here; add --yes to do it", what)
}

// askYesNo asks whether to delete; nil is a yes.
func (p *Program) askYesNo(question string) error {
	fmt.Fprintf(p.Err, "%s [y/N] ", plain(question))
	answer, err := bufio.NewReader(io.LimitReader(p.In, maxAnswer)).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	case "":
		if err != nil {
			fmt.Fprintln(p.Err)
		}
	}
	return &Exit{Code: codeFailure, Err: errors.New("nothing was deleted")}
}

// maxAnswer is more than anybody types for yes or no.
const maxAnswer = 100

// describeDeletion says what goes with a pool, and what stays.
func describeDeletion(pool wire.Pool) string {
	return fmt.Sprintf(
		"Pool %s: %s and %s will end as cancelled, and the pool is deleted with %s.\nWhat stays: how its jobs "+
			"ended, their logs and outputs, and its usage, for as long as each is kept.",
		pool.Name, count(pool.Queued, "waiting job"), count(pool.Running, "running job"), count(pool.Nodes.Total, "node"))
}

// count is a number of things in words.
func count(n int, thing string) string {
	if n == 1 {
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
