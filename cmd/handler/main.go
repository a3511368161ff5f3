// Command handler is the custom handler of the function app. The Functions host
// starts it and sends it what the triggers bring; it has no flag but --version.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // schedules name time zones, and a function app may have none installed

	"dsvmpools/handlers"
	"dsvmpools/shared/version"
)

func main() {
	if version.PrintIfAsked(os.Stdout, "handler", os.Args[1:]) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Standard output: the host takes everything on standard error for an error.
	os.Exit(handlers.Main(ctx, os.Getenv, slog.New(slog.NewTextHandler(os.Stdout, nil))))
}
