// Command agent is what runs on a node: it takes the work that the node's pool
// gives it, runs it and reports. Its settings are in the environment; agent.Config
// lists them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"dsvmpools/agent"
	"dsvmpools/shared/version"
)

func main() {
	if version.PrintIfAsked(os.Stdout, "agent", os.Args[1:]) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(agent.Main(ctx, os.Getenv))
}
