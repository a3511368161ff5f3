//go:build unix

package main

import "dsvmpools/cmd/dsvm/cli"

// instanceCommands are those that run an instance or parts of one. Each is made in a file of
// its own; those that talk to an instance are in package cli.
func instanceCommands() []cli.Command {
	return append([]cli.Command{up, demo, bench}, roles()...)
}
