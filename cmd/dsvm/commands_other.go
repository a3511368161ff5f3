//go:build !unix

package main

import "dsvmpools/cmd/dsvm/cli"

// commands are none: an instance runs on Unix alone.
func commands() []cli.Command { return nil }
