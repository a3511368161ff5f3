//go:build unix

package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"dsvmpools/shared/protocol"
)

func TestFenced(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(1, "sleep", "1000"))
	n.until("the start", started(1))
	reports := len(n.reports)
	n.change(func() { n.away = true })
	ctx, done := context.WithTimeout(context.Background(), deadline)
	defer done()
	if n.await(ctx, func() bool { return !n.taken }) != nil {
		t.Fatal("the session is still held")
	}
	if len(strays(n.cfg, 1)) == 0 {
		t.Error("the attempt was killed because Service Bus was away")
	}
	n.change(func() { n.away, n.state = false, protocol.FencedState() })
	if n.await(ctx, func() bool { return n.accepts == 2 && !n.taken }) != nil {
		t.Fatal("the session was not taken again")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.none(1)
	if len(n.reports) != reports {
		t.Errorf("got %d reports, want none after the fence", len(n.reports)-reports)
	}
}

func TestAway(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(1, "sh", "-c", "while [ ! -e go ]; do sleep 0.01; done"))
	n.until("the start", started(1))
	n.change(func() { n.away = true })
	if err := os.WriteFile(filepath.Join(n.cfg.Share, "jobs/cpu/job-1/1/wd/go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the attempt to end", func() bool { return len(strays(n.cfg, 1)) == 0 })
	n.change(func() { n.away = false })
	if f := n.finished(1); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
}
