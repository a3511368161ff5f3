// Command dsvm is the command line: it runs jobs on an instance, here or in
// Azure. It can also be an instance by itself: then it plays the handler and the
// agents, so that it works alone.
package main

import (
	"context"
	"os"

	"dsvmpools/cmd/dsvm/cli"
)

func main() {
	ctx, signals := cli.Listen(context.Background())
	p := cli.System()
	p.Signals, p.DialDesktop = signals, dialDesktop
	os.Exit(p.Main(ctx, os.Args[1:], commands()...))
}
