package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// What a run measures.
const (
	benchTime    = time.Second // of a round
	benchRounds  = 4           // of each measurement, in turns; the best one counts
	benchClients = 8
	batchClients = 4
	batchSize    = 100
	benchTable   = "bench"

	wantedRatio = 3.0   // of the speed of writes to Azurite's
	wantedReads = 8_000 // a second
)

// measurement is one kind of request, sent by so many clients at once.
type measurement struct {
	name    string
	clients int
	writes  bool
	reads   bool
	// prepared requests cost no client anything but sending them.
	prepared bool
	prepare  func(n int64) exchange // outside the time that is measured; nil = nothing
	do       func(ctx context.Context, t *target, n int64, prepared exchange) error
}

// So many requests are prepared for a round; one that uses all of them ends
// early.
const preparedBatches, preparedInserts = 1500, 15_000

func measurements() []measurement {
	client := func(t *target) *aztables.Client { return t.service.NewClient(benchTable) }
	send := func(ctx context.Context, t *target, e exchange, want int) error {
		r, err := t.send(ctx, e.method, strings.ReplaceAll(e.path, "TABLE", benchTable), e.header, e.body)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		answer, err := io.ReadAll(r.Body)
		if err == nil && (r.StatusCode != want || strings.Contains(string(answer), "odata.error")) {
			err = fmt.Errorf("%d %s", r.StatusCode, answer)
		}
		return err
	}
	return []measurement{
		{
			name:    "insert, aztables",
			clients: benchClients,
			writes:  true,
			do: func(ctx context.Context, t *target, n int64, _ exchange) error {
				_, err := client(t).AddEntity(ctx, benchRow("p", fmt.Sprintf("c%08d", n)), nil)
				return err
			},
		},
		{name: "insert, prepared", clients: benchClients, writes: true, prepared: true,
			prepare: func(n int64) exchange {
				return exchange{"POST", "TABLE", map[string]string{"Prefer": "return-no-content"}, benchRow("q", fmt.Sprintf("r%08d", n))}
			},
			do: func(ctx context.Context, t *target, _ int64, e exchange) error { return send(ctx, t, e, 204) }},
		{
			name:    "transaction of 100, aztables",
			clients: batchClients,
			writes:  true,
			do: func(ctx context.Context, t *target, n int64, _ exchange) error {
				partition := fmt.Sprint("t", n)
				var actions []aztables.TransactionAction
				for i := range batchSize {
					actions = append(
						actions,
						aztables.TransactionAction{
							ActionType: aztables.TransactionTypeAdd,
							Entity:     benchRow(partition, fmt.Sprintf("%03d", i)),
						},
					)
				}
				_, err := client(t).SubmitTransaction(ctx, actions, nil)
				return err
			},
		},
		{name: "transaction of 100, prepared", clients: batchClients, writes: true, prepared: true,
			prepare: func(n int64) exchange {
				partition := fmt.Sprint("u", n)
				var inserts []exchange
				for i := range batchSize {
					inserts = append(
						inserts,
						exchange{
							"POST",
							benchTable,
							map[string]string{"Prefer": "return-no-content"},
							benchRow(partition, fmt.Sprintf("%03d", i)),
						},
					)
				}
				return batch(inserts...)
			},
			do: func(ctx context.Context, t *target, _ int64, e exchange) error { return send(ctx, t, e, 202) }},
		{
			name:    "point read, aztables",
			clients: benchClients,
			reads:   true,
			do: func(ctx context.Context, t *target, n int64, _ exchange) error {
				_, err := client(t).GetEntity(ctx, "p", fmt.Sprintf("c%08d", 1+n%500), nil)
				return err
			},
		},
		{
			name:     "point read, prepared",
			clients:  benchClients,
			reads:    true,
			prepared: true,
			do: func(ctx context.Context, t *target, n int64, _ exchange) error {
				return send(ctx, t, exchange{method: "GET", path: entityPath(benchTable, "p", fmt.Sprintf("c%08d", 1+n%500))}, 200)
			},
		},
	}
}

// benchRow is of the size of a job in the ledger, 1 KB.
func benchRow(partition, row string) []byte {
	return entity(
		partition,
		row,
		"State",
		"running",
		"Team",
		"vision",
		"Cpus",
		4,
		"SubmittedAt",
		"2026-01-02T03:04:05Z",
		"SubmittedAt@odata.type",
		"Edm.DateTime",
		"Order",
		"12345678901234",
		"Order@odata.type",
		"Edm.Int64",
		"Spec",
		strings.Repeat("x", 800),
	)
}

// run is a measurement at one target; its numbers go on from round to round.
type run struct {
	measurement
	target *target
	next   atomic.Int64
	best   float64 // requests a second
}

// round measures once.
func (r *run) round(ctx context.Context) error {
	var ready []exchange
	first := r.next.Load()
	if r.prepare != nil {
		count := preparedInserts
		if r.clients == batchClients {
			count = preparedBatches
		}
		fill := strings.NewReplacer("TABLE", benchTable, "ACCOUNT", r.target.url)
		for n := range count {
			e := r.prepare(first + int64(n) + 1)
			if e.path == "$batch" {
				e.body = []byte(fill.Replace(string(e.body)))
			}
			ready = append(ready, e)
		}
		runtime.GC()
	}
	var done atomic.Int64
	var failure atomic.Pointer[error]
	begin := time.Now()
	var all sync.WaitGroup
	for range r.clients {
		all.Go(func() {
			for time.Since(begin) < benchTime && failure.Load() == nil {
				n := r.next.Add(1)
				var prepared exchange
				if r.prepare != nil {
					if int(n-first) > len(ready) {
						return
					}
					prepared = ready[n-first-1]
				}
				if err := r.do(ctx, r.target, n, prepared); err != nil {
					failure.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		return fmt.Errorf("%s, %s: %w", r.name, r.target.name, *err)
	}
	r.best = max(r.best, float64(done.Load())/time.Since(begin).Seconds())
	return nil
}

// runBench measures both servers in turns. What is wanted is judged by prepared
// requests, where the servers take the time; what the client costs on top is in
// the other rows.
func runBench(ctx context.Context) (bool, error) {
	var c comparison
	stop, err := c.start(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	if err := c.createTable(ctx, benchTable); err != nil {
		return false, err
	}
	syncs, err := syncRate()
	if err != nil {
		return false, err
	}
	fmt.Printf("the disk syncs %.0f times a second\n\n%-30s %10s %10s %8s\n", syncs, "requests a second", "local", "Azurite", "ratio")
	for _, m := range measurements() {
		ours, theirs := &run{measurement: m, target: c.ours}, &run{measurement: m, target: c.theirs}
		for range benchRounds {
			if err := errors.Join(ours.round(ctx), theirs.round(ctx)); err != nil {
				return false, err
			}
		}
		note := ""
		switch {
		case !m.prepared:
		case m.writes && ours.best < wantedRatio*theirs.best, m.reads && ours.best < wantedReads:
			c.failed++
			note = "  less than wanted"
		default:
			c.passed++
		}
		fmt.Printf("%-30s %10.0f %10.0f %7.1fx%s\n", m.name, ours.best, theirs.best, ours.best/theirs.best, note)
	}
	fmt.Println()
	return verdict(c.passed, c.failed), nil
}

// syncRate is how often a second the disk makes 4 KiB durable.
func syncRate() (float64, error) {
	f, err := os.CreateTemp("", "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	begin, n := time.Now(), 0
	for ; time.Since(begin) < time.Second; n++ {
		if _, err := f.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
