//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// What the benchmark runs. The pool is warm: two nodes of four processors each,
// so that eight jobs run side by side.
const (
	benchPool     = `{"name":"bench","sizes":["Standard_D4s_v5"],"nodes":{"min":2,"max":2},"idleTimeout":"1h"}`
	benchParallel = 8
	benchAtRest   = 60 // jobs one at a time
	benchEmpty    = 10 // pools that begin at zero
	benchTime     = 10 * time.Minute
	benchLook     = 5 * time.Millisecond
)

// benchResult is what the benchmark prints.
type benchResult struct {
	Jobs                        int         `json:"jobs"`
	JobsPerSecond               float64     `json:"jobsPerSecond"`
	BareJobsPerSecond           float64     `json:"bareJobsPerSecond"`
	Ratio                       float64     `json:"ratio"`
	AcceptedToStartedMs         percentiles `json:"acceptedToStartedMs"`
	AcceptedToCapacityRequestMs percentiles `json:"acceptedToCapacityRequestMs"`
	PerJob                      struct {
		AtRest    perJob `json:"atRest"`
		UnderLoad perJob `json:"underLoad"`
	} `json:"perJob"`
}

type percentiles struct {
	P50 float64  `json:"p50"`
	P95 float64  `json:"p95"`
	P99 *float64 `json:"p99,omitempty"`
}

// perJob is what one job costs.
type perJob struct {
	MessagesSent      float64 `json:"messagesSent"`
	MessagesDelivered float64 `json:"messagesDelivered"`
	TableTransactions float64 `json:"tableTransactions"`
	EntitiesWritten   float64 `json:"entitiesWritten"`
	CPUMs             float64 `json:"cpuMs"`
}

// bencher is one run of the benchmark.
type bencher struct {
	in     *local.Instance
	client *client.Client
	sender *azservicebus.Sender

	mu    sync.Mutex
	asked map[string]time.Time // first request for capacity, by scale set
}

// bench measures what a job costs and how fast jobs go.
func bench(p *cli.Program) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:   "bench [--jobs N]",
		Short: "Measure how fast jobs run here, and what each costs",
		Long: `Run an instance of its own in a temporary folder, drop N jobs of /bin/true on the
queue against a warm pool, and print one JSON object: jobs per second beside what
a bare loop on this machine starts and reaps with the same parallelism, the times
from accepted to started and from accepted to the request for capacity, and what
each job costs in messages, table transactions, entities and processor time.`,
		Example: "  dsvm bench --jobs 2000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > 100_000 {
				return cli.WrongUse("--jobs is %d; write 1 to 100000", n)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), benchTime)
			defer cancel()
			r, err := runBench(ctx, p, n)
			if err != nil {
				return err
			}
			out := json.NewEncoder(p.Out)
			out.SetIndent("", "  ")
			return out.Encode(r)
		},
	}
	cmd.Flags().IntVar(&n, "jobs", 1000, "jobs under load")
	return cmd
}

func runBench(ctx context.Context, p *cli.Program, n int) (r benchResult, err error) {
	dir, err := os.MkdirTemp("", "dsvm-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	say := func(what string) { fmt.Fprintln(p.Err, "dsvm:", what) }
	say("the machine's own limit")
	r.Jobs, r.BareJobsPerSecond = n, bare(n)
	self, err := program()
	if err != nil {
		return r, err
	}
	b := &bencher{asked: map[string]time.Time{}}
	say("starting an instance with a warm pool")
	b.in, err = local.Start(ctx, local.Config{Dir: dir, Program: self, Log: slog.LevelWarn, OnCapacity: b.capacity})
	if err != nil {
		return r, err
	}
	defer b.in.Close()
	if err := b.connect(ctx); err != nil {
		return r, err
	}
	say("one job at a time")
	before := b.counters()
	if r.AcceptedToStartedMs, err = b.atRest(ctx); err != nil {
		return r, err
	}
	r.PerJob.AtRest = b.counters().per(before, benchAtRest)
	say(fmt.Sprintf("%d jobs at once", n))
	before = b.counters()
	took, err := b.load(ctx, n)
	if err != nil {
		return r, err
	}
	r.PerJob.UnderLoad = b.counters().per(before, n)
	r.JobsPerSecond = float64(n) / took.Seconds()
	r.Ratio = r.JobsPerSecond / r.BareJobsPerSecond
	say("pools that begin at zero")
	r.AcceptedToCapacityRequestMs, err = b.fromZero(ctx)
	return r, err
}

// bare is how many processes a second a loop starts and reaps that does nothing
// else.
func bare(n int) float64 {
	var left atomic.Int64
	left.Store(int64(n))
	begin := time.Now()
	var wg sync.WaitGroup
	for range benchParallel {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				_ = exec.Command("/bin/true").Run() // how fast, not how well
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begin).Seconds()
}

func (b *bencher) capacity(set string, n int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.asked[set]; !ok && n > 0 {
		b.asked[set] = at
	}
}

func (b *bencher) connect(ctx context.Context) (err error) {
	if b.client, err = client.New(b.in.URL, b.in.Key); err != nil {
		return err
	}
	bus, err := azservicebus.NewClientFromConnectionString(b.in.ServiceBus, nil)
	if err != nil {
		return err
	}
	if b.sender, err = bus.NewSender("jobs", nil); err != nil {
		return err
	}
	if _, err := b.client.Apply(ctx, []byte(benchPool)); err != nil {
		return err
	}
	return b.until(ctx, func() (bool, error) {
		pool, err := b.client.Pool(ctx, "bench")
		return pool.Nodes.Ready == 2, err
	})
}

// until looks until something has come about.
func (b *bencher) until(ctx context.Context, ok func() (bool, error)) error {
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-time.After(benchLook):
		case <-ctx.Done():
			return errors.New("the benchmark took too long, or was stopped")
		}
	}
}

func message(pool, id string) *azservicebus.Message {
	return &azservicebus.Message{Body: fmt.Appendf(nil, `{"id":%q,"pool":%q,"command":["/bin/true"]}`, id, pool)}
}

// atRest sends jobs one at a time and measures from accepted to started, by the
// clock that queue, agent and this program share.
func (b *bencher) atRest(ctx context.Context) (percentiles, error) {
	var times []float64
	for i := range benchAtRest {
		id := fmt.Sprintf("rest-%d", i)
		if err := b.sender.SendMessage(ctx, message("bench", id), nil); err != nil {
			return percentiles{}, err
		}
		accepted := time.Now()
		err := b.until(ctx, func() (bool, error) {
			j, err := b.client.Job(ctx, id)
			if err != nil || j.State != job.Succeeded {
				return false, notYet(err)
			}
			times = append(times, ms(j.StartedAt.Sub(accepted)))
			return true, nil
		})
		if err != nil {
			return percentiles{}, err
		}
	}
	p := rank(times)
	p99 := at(times, 99)
	p.P99 = &p99
	return p, nil
}

// notYet takes an unknown job for one that is still on its way.
func notYet(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// load sends n jobs in batches and waits until each has its final row.
func (b *bencher) load(ctx context.Context, n int) (time.Duration, error) {
	begin := time.Now()
	var batch *azservicebus.MessageBatch
	for i := range n {
		for {
			var err error
			if batch == nil {
				if batch, err = b.sender.NewMessageBatch(ctx, nil); err != nil {
					return 0, err
				}
			}
			if err = batch.AddMessage(message("bench", fmt.Sprintf("load-%d", i)), nil); err == nil {
				break
			}
			if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
				return 0, err
			}
			if err = b.sender.SendMessageBatch(ctx, batch, nil); err != nil {
				return 0, err
			}
			batch = nil
		}
	}
	if err := b.sender.SendMessageBatch(ctx, batch, nil); err != nil {
		return 0, err
	}
	err := b.until(ctx, func() (bool, error) {
		if active, _, locked, _ := b.in.Bus.Counts("jobs"); active+locked > 0 {
			return false, nil
		}
		pool, err := b.client.Pool(ctx, "bench")
		return err == nil && pool.Queued+pool.Running == 0, err
	})
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	jobs, err := b.client.Jobs(ctx, client.JobFilter{Pool: "bench", State: job.Succeeded}, n+benchAtRest+1)
	if err == nil && len(jobs) != n+benchAtRest {
		err = fmt.Errorf("%d jobs succeeded, not %d", len(jobs), n+benchAtRest)
	}
	return took, err
}

// fromZero measures from an accepted message to the request for capacity, for
// pools that have never had a node.
func (b *bencher) fromZero(ctx context.Context) (percentiles, error) {
	var times []float64
	for i := range benchEmpty {
		name := fmt.Sprintf("zero-%d", i)
		if _, err := b.client.Apply(ctx, fmt.Appendf(nil, `{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`, name)); err != nil {
			return percentiles{}, err
		}
		if err := b.sender.SendMessage(ctx, message(name, name), nil); err != nil {
			return percentiles{}, err
		}
		accepted := time.Now()
		err := b.until(ctx, func() (bool, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			asked, ok := b.asked[pool.SetName(name, "d4s-v5")]
			if ok {
				times = append(times, max(ms(asked.Sub(accepted)), 0))
			}
			return ok, nil
		})
		if err != nil {
			return percentiles{}, err
		}
	}
	return rank(times), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func rank(times []float64) percentiles {
	return percentiles{P50: at(times, 50), P95: at(times, 95)}
}

// at is the nearest-rank percentile.
func at(times []float64, percent int) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min((len(sorted)*percent+99)/100, len(sorted))-1]
}

// counters are the servers' counts, and the processor time of all processes.
type counters struct {
	sent, delivered, transactions, entities int64
	cpu                                     time.Duration
}

func (b *bencher) counters() counters {
	bus, tables := b.in.Bus.Stats(), b.in.Tables.Stats()
	return counters{bus.MessagesSent, bus.MessagesDelivered, tables.Transactions, tables.EntitiesWritten, cpuTime()}
}

func (c counters) per(before counters, jobs int) perJob {
	n := float64(jobs)
	return perJob{MessagesSent: float64(c.sent-before.sent) / n, MessagesDelivered: float64(c.delivered-before.delivered) / n,
		TableTransactions: float64(c.transactions-before.transactions) / n, EntitiesWritten: float64(c.entities-before.entities) / n,
		CPUMs: ms(c.cpu-before.cpu) / n}
}
