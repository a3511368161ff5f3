//go:build !unix

package agent

import (
	"context"
	"fmt"
	"os"
)

// Main says that there is no agent for this system.
func Main(context.Context, func(string) string) int {
	fmt.Fprintln(os.Stderr, "the agent runs on Linux and macOS; use a node or a machine with one of them")
	return 1
}
