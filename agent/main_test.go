//go:build unix

package agent

import (
	"context"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
)

// TestMain plays the program when a test starts this binary as an agent, and the
// programs of jobs that escape when a job does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && escape(os.Args[1:]) {
		os.Exit(0)
	}
	if path := os.Getenv("SOCKET_UNDER_TEST"); path != "" {
		os.Exit(passOn(path))
	}
	if os.Getenv("AGENT_UNDER_TEST") != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := underTest(ctx)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// passOn connects standard input and output to a socket: a proxy command for ssh.
func passOn(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 1
	}
	go func() {
		io.Copy(c, os.Stdin)
		os.Exit(0)
	}()
	io.Copy(os.Stdout, c)
	return 0
}

// underTest is Main, with a way of holding processes that no setting chooses.
func underTest(ctx context.Context) int {
	by := os.Getenv("AGENT_HOLDS_BY")
	if by == "" {
		return Main(ctx, os.Getenv)
	}
	cfg, err := ReadConfig(os.Getenv)
	if err == nil {
		cfg.holdBy, err = strconv.Atoi(by)
	}
	if err != nil || Run(ctx, cfg) != nil {
		return 1
	}
	return 0
}
