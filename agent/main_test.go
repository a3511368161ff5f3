//go:build unix

package agent

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// TestMain plays the program when a test starts this binary as an agent.
func TestMain(m *testing.M) {
	if os.Getenv("AGENT_UNDER_TEST") != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Main(ctx, os.Getenv)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}
