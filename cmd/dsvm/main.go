// Command dsvm is the command line: it runs jobs on an instance, here or in
// Azure. It can also be an instance by itself: then it plays the handler and the
// agents, so that it works alone.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"dsvmpools/cmd/dsvm/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C ends what is being done in an orderly way; the second ends
	// the process, so that nothing can make it stay.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.System().Main(ctx, os.Args[1:], commands()...))
}
