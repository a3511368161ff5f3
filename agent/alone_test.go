//go:build unix

package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/shared/protocol"
)

// off has an agent that would be powered off by making a file, and says whether it
// has been.
func off(t *testing.T, after time.Duration) (Config, func() bool) {
	cfg := config(t)
	file := filepath.Join(t.TempDir(), "off")
	cfg.AloneAfter, cfg.PowerOff = after, []string{"touch", file}
	return cfg, func() bool {
		_, err := os.Stat(file)
		return err == nil
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A node that hears nothing from its pool is powered off, whether Service Bus is
// there or not.
func TestAloneIsPoweredOff(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		cfg, isOff := off(t, 50*time.Millisecond)
		b := newBus(t)
		b.away = away
		launched(t, cfg, b)
		await(t, "the node to be powered off", isOff)
	}
}

// A node that was given up is powered off as well when nobody deletes it.
func TestGivenUpIsPoweredOff(t *testing.T) {
	t.Parallel()
	cfg, isOff := off(t, 200*time.Millisecond)
	b := newBus(t)
	launched(t, cfg, b)
	b.work(protocol.WorkItem{Stop: "the pool has given this node up"})
	await(t, "the node to be powered off", isOff)
}

// A word from the pool keeps the node, and so does work.
func TestNotAlone(t *testing.T) {
	t.Parallel()
	cfg, _ := off(t, 100*time.Millisecond)
	b := newBus(t)
	launched(t, cfg, b)
	b.work(protocol.WorkItem{N: 1, Assign: &protocol.Assignment{Job: "one", Attempt: 1, Script: "sleep 0.5; test ! -e " + cfg.PowerOff[1], CPUs: 1}})
	if f := b.finished(1); f.State != "succeeded" {
		t.Errorf("the node was powered off while it worked: %+v", f)
	}

	const after = 2 * time.Second
	cfg, isOff := off(t, after)
	b = newBus(t)
	launched(t, cfg, b)
	for began := time.Now(); time.Since(began) < after*3/2; {
		b.work(protocol.WorkItem{Here: true})
		b.settled()
		spoken := time.NewTimer(after / 10)
		<-spoken.C
	}
	if isOff() {
		t.Error("the node was powered off although its pool spoke")
	}
}

// What a machine cannot do is said, and nothing else happens.
func TestPowerOffThatFails(t *testing.T) {
	t.Parallel()
	cfg, _ := off(t, time.Millisecond)
	cfg.PowerOff = []string{"false"}
	b := newBus(t)
	launched(t, cfg, b)
	b.work(protocol.WorkItem{N: 1, Assign: &protocol.Assignment{Job: "one", Attempt: 1, Script: "true", CPUs: 1}})
	if f := b.finished(1); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
}
