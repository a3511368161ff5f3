package main

import (
	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/cmd/dsvm/deploy"
	"dsvmpools/cmd/dsvm/pack"
)

// commands are those that do not only talk to an instance, as the ones in package cli do.
// Those that run one are made on Unix alone.
func commands() []cli.Command {
	return append(append(instanceCommands(), pack.Command, sshDoor), deploy.Commands()...)
}
