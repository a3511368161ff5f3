package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What a job may cost, in counts. A machine's speed is not among them, but it has a part
// in most: agents and functions gather for a fixed time, so on a machine that runs half as
// many jobs a second, a batch holds half as many of them, and the cost of the batch is
// shared by fewer. So the part of a bound that batches share grows below fullRate in
// proportion. One load of three has to keep each bound: other programs on the machine can
// stop a part of the instance for a moment, and everything then comes one by one.
const (
	fullRate   = 600 // jobs a second, on two processors that do nothing else
	countsLoad = 800 // jobs
	countsRest = 40
	countTries = 3
)

// countBound bounds one count of a job under load.
type countBound struct {
	name   string
	count  func(perJob) float64
	fixed  float64 // of each job alone
	shared float64 // of a batch, at fullRate
}

var loadBounds = []countBound{
	{"messages", func(p perJob) float64 { return p.MessagesSent }, 1, 0.2},
	{"table transactions", func(p perJob) float64 { return p.TableTransactions }, 0, 0.2},
	{"entities", func(p perJob) float64 { return p.EntitiesWritten }, 3, 2},
	{"bytes written", func(p perJob) float64 { return p.BytesWritten }, 0, 8e3},
	{"syncs", func(p perJob) float64 { return p.Syncs }, 0, 0.6},
	{"bytes left on the share", func(p perJob) float64 { return p.ShareBytes }, 1000, 0},
}

// Bounds at rest: 3 transactions and 6 entities of the job alone, and one entity in the ledger. What
// timers, the recorder and reports do meanwhile, by time, is shared by countsRest jobs.
const (
	restTransactions = 3.3
	restEntities     = 9.0
)

// Not parallel: the stores of all instances of this process count together.
func TestCountsOfAJob(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	b, err := startBencher(ctx, []string{os.Args[0]}, filepath.Join(t.TempDir(), "instance"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.in.Close()
	_, rest, err := b.runAtRest(ctx, countsRest)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("at rest: %+v", rest)
	if rest.TableTransactions > restTransactions || rest.EntitiesWritten > restEntities {
		t.Errorf("a job at rest costs %.2f transactions and %.2f entities, want at most %.1f and %.1f",
			rest.TableTransactions, rest.EntitiesWritten, restTransactions, restEntities)
	}
	missed := loadBounds
	var last loadResult
	for try := 0; try < countTries && len(missed) > 0; try++ {
		last, err = b.runLoad(ctx, fmt.Sprintf("load-%d", try), workloads["true"].command, countsLoad, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("load at %.0f jobs/s: %+v", last.rate(), last.perJob)
		missed = slices.DeleteFunc(slices.Clone(missed), func(c countBound) bool { return c.isKept(last) })
	}
	for _, bound := range missed {
		t.Errorf("%s of a job under load, at %.0f jobs/s: %.2f, want more than 0 and at most %.2f",
			bound.name, last.rate(), bound.count(last.perJob), bound.most(last))
	}
}

// most is the bound at the rate of a load.
func (c countBound) most(l loadResult) float64 { return c.fixed + c.shared*max(1, fullRate/l.rate()) }

// isKept reports whether a load is within the bound. A count of 0 is one that nobody
// counts.
func (c countBound) isKept(l loadResult) bool {
	got := c.count(l.perJob)
	return got <= c.most(l) && (got > 0 || c.shared == 0)
}
