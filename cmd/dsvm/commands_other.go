//go:build !unix

package main

import "dsvmpools/cmd/dsvm/cli"

// instanceCommands are none: an instance runs on Unix alone.
func instanceCommands() []cli.Command { return nil }
