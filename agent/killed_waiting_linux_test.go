package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// TestKilledWithWaiting kills an agent that holds sixty assignments which wait for their turn.
// Its next life starts each of them once, in their order; the two that ran are lost.
func TestKilledWithWaiting(t *testing.T) {
	t.Parallel()
	const runs, all = 2, 62
	s := onServiceBus(t, time.Second)
	var items []protocol.WorkItem
	var want []string
	for id := int64(1); id <= all; id++ {
		text := "sleep 1000"
		if id > runs {
			text = fmt.Sprintf("echo %d >> %s/order", id, s.cfg.Share)
			want = append(want, fmt.Sprint(id))
		}
		items = append(items, withRoom(id, 1, text))
	}
	items[1].Assign.Room = 2 // it runs beside the first one; the others wait for both
	var log bytes.Buffer
	agent := s.child(&log, "DSVM_CPUS=2")
	s.give(items...)
	s.until("two to run", func(list []protocol.Report) bool { return slices.Equal(startedNow(list), []int64{1, 2}) })
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	if _, err := os.Stat(filepath.Join(s.cfg.Share, "order")); err == nil {
		t.Fatal("one that waits was started")
	}
	s.child(&log, "DSVM_CPUS=2")
	for id := int64(1); id <= all; id++ {
		state := job.AttemptSucceeded
		if id <= runs {
			state = job.AttemptAgentRestarted
		}
		if f := s.finished(id); f.State != string(state) {
			t.Errorf("assignment %d ended as %+v, want %s", id, f, state)
		}
	}
	text, err := os.ReadFile(filepath.Join(s.cfg.Share, "order"))
	if got := strings.Fields(string(text)); err != nil || !slices.Equal(got, want) {
		t.Errorf("started: %v, %v", got, err)
	}
}
