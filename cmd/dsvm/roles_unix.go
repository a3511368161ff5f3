//go:build unix

package main

import (
	"context"
	"log/slog"
	"os"
	_ "time/tzdata" // schedules name time zones, and this machine may have none installed

	"github.com/spf13/cobra"

	"dsvmpools/agent"
	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/handlers"
	"dsvmpools/local/compute"
	"dsvmpools/shared/version"
)

// The roles that this program plays for itself, so that it works alone: the
// function app's handler, a node's agent, and the init of a local instance.
func roles() []cli.Command {
	return []cli.Command{
		role("handler", func(ctx context.Context, _ []string) int { return handlers.Main(ctx, os.Getenv, output()) }),
		role("agent", func(ctx context.Context, _ []string) int { return agent.Main(ctx, os.Getenv) }),
		role("instance", func(_ context.Context, args []string) int { return compute.Supervise(args) }),
	}
}

// output logs single lines on standard output: a Functions host takes standard
// error for errors.
func output() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stdout, nil)) }

// role makes a hidden command that plays a part and ends with its exit code. It
// answers --version itself.
func role(name string, run func(ctx context.Context, args []string) int) cli.Command {
	return func(*cli.Program) *cobra.Command {
		return &cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true, Args: cobra.ArbitraryArgs,
			RunE: func(cmd *cobra.Command, args []string) error {
				if version.PrintIfAsked(os.Stdout, name, args) {
					return nil
				}
				if code := run(cmd.Context(), args); code != 0 {
					return &cli.Exit{Code: code}
				}
				return nil
			}}
	}
}
