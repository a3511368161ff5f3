package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/wire"
)

const (
	// completeTimeout keeps a shell from hanging on the tab key.
	completeTimeout = 2 * time.Second
	// completedJobs is how many of the newest jobs are offered.
	completedJobs = 50
)

// complete says how the values of a flag are completed.
func complete(c *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // the flag does not exist: found by the first test that makes the command
	}
}

// completePools offers the names of pools.
func (p *Program) completePools(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		pools, err := s.Pools(ctx)
		return words(pools, func(p wire.Pool) string { return p.Name + "\t" + string(p.State) }), err
	})
}

// completeJobs offers the ids of the newest jobs.
func (p *Program) completeJobs(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		jobs, err := s.Jobs(ctx, client.JobFilter{}, completedJobs)
		return words(jobs, func(j wire.Job) string { return j.ID + "\t" + plain(fmt.Sprint(j.State, " ", j.Name)) }), err
	})
}

// completeNodes offers the names of nodes.
func (p *Program) completeNodes(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		nodes, err := s.Nodes(ctx, "")
		return words(nodes, func(n wire.Node) string { return n.Name + "\t" + string(n.State) }), err
	})
}

// firstOf completes the first argument alone.
func firstOf(all cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return all(c, args, part)
	}
}

// eachOf completes every argument, without those that stand there already.
func eachOf(all cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		found, directive := all(c, args, part)
		return slices.DeleteFunc(found, func(offer string) bool {
			name, _, _ := strings.Cut(offer, "\t")
			return slices.Contains(args, name)
		}), directive
	}
}

// offer asks the instance. One that does not answer offers nothing.
func (p *Program) offer(c *cobra.Command, ask func(context.Context, *session) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	s, err := p.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := ask(ctx, s)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func words[T any](items []T, word func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = word(item)
	}
	return out
}

// exactly checks that there is one argument and says what it is.
func exactly(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return WrongUse("`%s` takes %s, and nothing else", c.CommandPath(), what)
		}
		return nil
	}
}

// noArgsBut is the rule of a command that takes by a flag what people write without it.
func noArgsBut(flag string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return nil
		case 1:
			return WrongUse("`%s` takes no argument; did you mean `%[1]s %s %s`?", c.CommandPath(), flag, args[0])
		}
		return WrongUse("`%s` takes no arguments", c.CommandPath())
	}
}

// namesOf are names as texts.
func namesOf[T ~string](all []T) []string {
	names := make([]string, len(all))
	for i, name := range all {
		names[i] = string(name)
	}
	return names
}

// severalOf is the rule of a command that takes one argument or more.
func severalOf(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return WrongUse("%s needs %s", c.CommandPath(), what)
		}
		return nil
	}
}

// checkLimit refuses a --limit that leaves nothing.
func checkLimit(limit int) error {
	if limit < 1 {
		return WrongUse("--limit is %d; it takes a number from 1 up", limit)
	}
	return nil
}
