//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// workload is a kind of job that the benchmark runs many of.
type workload struct {
	title   string
	command []string
	bare    int // how many the bare loop runs at most: enough for a rate
}

// workloads are the kinds of jobs, by the name that --job takes.
var workloads = map[string]workload{
	"true":   {"/bin/true", []string{"/bin/true"}, benchMostBare},
	"print":  {"sh that prints 10 lines", []string{"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done"}, 5000},
	"sleep":  {"sleep 0.1", []string{"/bin/sleep", "0.1"}, 400},
	"output": {"sh that writes one output file", []string{"/bin/sh", "-c", `echo result >"${DSVM_OUTPUT:-/tmp}/result"`}, 5000},
}

func workloadNames() string {
	return strings.Join(slices.Sorted(maps.Keys(workloads)), ", ")
}

// How many processes the bare loop starts for its rate.
const (
	benchLeastBare = 1000
	benchMostBare  = 20_000
)

// runBare is how many processes a second a loop starts and reaps that does nothing
// else. It ends early when ctx ends.
func runBare(ctx context.Context, command []string, n int) float64 {
	var left atomic.Int64
	left.Store(int64(n))
	begin := time.Now()
	var wg sync.WaitGroup
	for range benchParallel {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				_ = exec.Command(command[0], command[1:]...).Run() // how fast, not how well
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begin).Seconds()
}

// message is a job as a document on the queue.
func message(pool, id string, command []string) *azservicebus.Message {
	document := struct {
		ID      string   `json:"id"`
		Pool    string   `json:"pool"`
		Command []string `json:"command"`
	}{id, pool, command}
	body, err := json.Marshal(document)
	if err != nil {
		panic(err) // strings can always be written
	}
	return &azservicebus.Message{Body: body}
}

// runAtRest sends jobs one at a time and measures from accepted to started, by the
// clock that queue, agent and this program share.
func (b *bencher) runAtRest(ctx context.Context, n int) (percentiles, perJob, error) {
	var times []float64
	before := b.readCounters()
	for i := range n {
		id := fmt.Sprintf("rest-%d", i)
		if err := b.sender.SendMessage(ctx, message("bench", id, workloads["true"].command), nil); err != nil {
			return percentiles{}, perJob{}, err
		}
		accepted := time.Now()
		err := b.until(ctx, func() (bool, error) {
			j, err := b.client.Job(ctx, id)
			if err != nil || j.State != job.Succeeded {
				return false, errorUnlessEarly(err)
			}
			times = append(times, ms(j.StartedAt.Sub(accepted)))
			b.succeeded++
			return true, nil
		})
		if err != nil {
			return percentiles{}, perJob{}, err
		}
	}
	return rankWithP99(times), b.readCounters().per(before, n), nil
}

// errorUnlessEarly takes an unknown job for one that is still on its way.
func errorUnlessEarly(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// sendAll sends messages in batches as large as the queue takes.
func (b *bencher) sendAll(ctx context.Context, n int, make func(i int) *azservicebus.Message) error {
	var batch *azservicebus.MessageBatch
	for i := range n {
		for {
			var err error
			if batch == nil {
				if batch, err = b.sender.NewMessageBatch(ctx, nil); err != nil {
					return err
				}
			}
			if err = batch.AddMessage(make(i), nil); err == nil {
				break
			}
			if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
				return err
			}
			if err = b.sender.SendMessageBatch(ctx, batch, nil); err != nil {
				return err
			}
			batch = nil
		}
	}
	return b.sender.SendMessageBatch(ctx, batch, nil)
}

// fillQueue makes n jobs wait in the pool, behind jobs that hold all slots. release lets
// them go.
func (b *bencher) fillQueue(ctx context.Context, n int) (release func() error, err error) {
	if n == 0 {
		return func() error { return nil }, nil
	}
	var gates []string
	for i := range benchParallel {
		id := fmt.Sprintf("gate-%d", i)
		if err := b.sender.SendMessage(ctx, message("bench", id, []string{"/bin/sleep", "3600"}), nil); err != nil {
			return nil, err
		}
		gates = append(gates, id)
	}
	said := time.Now()
	isRunning := func(n int) func() (bool, error) {
		return func() (bool, error) {
			pool, err := b.client.Pool(ctx, "bench")
			if time.Since(said) >= loadSay {
				said = time.Now()
				b.say(fmt.Sprintf("%d of %d jobs are in the pool", pool.Queued, n))
			}
			return pool.Running >= benchParallel && pool.Queued >= n && !b.hasMessages(), err
		}
	}
	if err := b.until(ctx, isRunning(0)); err != nil {
		return nil, err
	}
	command := workloads["true"].command
	err = b.sendAll(ctx, n, func(i int) *azservicebus.Message { return message("bench", fmt.Sprintf("queued-%d", i), command) })
	if err != nil {
		return nil, err
	}
	if err := b.awaitLooks(ctx, isRunning(n)); err != nil {
		return nil, err
	}
	return func() error {
		for _, id := range gates {
			if _, err := b.client.Cancel(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// hasMessages reports whether documents of jobs wait in their queue.
func (b *bencher) hasMessages() bool {
	active, _, locked, _ := b.in.Bus.Counts("jobs")
	return active+locked > 0
}

// loadResult is what a load came to.
type loadResult struct {
	ended  int // jobs
	took   time.Duration
	perJob perJob
	memory *benchMemory
}

func (l loadResult) rate() float64 { return float64(l.ended) / l.took.Seconds() }

// runLoad sends n jobs whose ids begin with the name, and waits until so many more have their final row. release lets
// jobs go that wait already. The counters are read when the load has ended, before
// anything looks at the jobs.
func (b *bencher) runLoad(ctx context.Context, name string, command []string, n int, release func() error) (l loadResult, err error) {
	before, err := b.client.Pool(ctx, "bench")
	if err != nil {
		return l, err
	}
	waiting := max(before.Queued+before.Running-benchParallel, 0) // without the jobs that hold the slots
	stored := b.storedBytes()
	resetPeak()
	counters, begin := b.readCounters(), time.Now()
	if err := release(); err != nil {
		return l, err
	}
	err = b.sendAll(ctx, n, func(i int) *azservicebus.Message { return message("bench", fmt.Sprintf("%s-%d", name, i), command) })
	if err != nil {
		return l, err
	}
	end, left, err := b.awaitEnded(ctx, waiting, n+waiting)
	if err != nil {
		return l, err
	}
	after := b.readCounters()
	l.ended, l.took, l.memory = n+waiting-left, end.Sub(begin), readMemory()
	l.perJob = after.per(counters, l.ended)
	l.perJob.addStored(b.storedBytes(), stored, l.ended)
	b.succeeded += l.ended
	return l, b.checkSucceeded(ctx)
}

// checkSucceeded returns an error unless as many jobs of the pool have succeeded as were
// counted.
func (b *bencher) checkSucceeded(ctx context.Context) error {
	n := b.succeeded
	jobs, err := b.client.Jobs(ctx, client.JobFilter{Pool: "bench", States: []job.State{job.Succeeded}}, n)
	if err == nil && len(jobs) != n {
		err = fmt.Errorf("%d jobs succeeded, not %d", len(jobs), n)
	}
	return err
}

// Times of the looks at a load. A look is a request that the handler answers, so it is
// rare while rows are written: what it costs would be counted as the jobs'. Whether rows
// are written is a counter in this process, which costs nothing.
const (
	loadTick  = 2 * time.Millisecond   // between two looks at the counter
	loadQuiet = 50 * time.Millisecond  // so long nothing is written, before the pool is looked at
	loadLook  = 500 * time.Millisecond // between two looks at the pool while rows are written
	loadSay   = 5 * time.Second        // between two lines for people who wait
)

// awaitEnded returns when the pool has at most so many jobs, and its queue none. It says
// when the last row was written, and how many jobs the pool has. all is the number of jobs
// that the pool gets, for people who wait.
func (b *bencher) awaitEnded(ctx context.Context, most, all int) (at time.Time, left int, err error) {
	written, at := b.in.Tables.Stats().EntitiesWritten, time.Now()
	looked, said := at, at
	for {
		select {
		case <-time.After(loadTick):
		case <-ctx.Done():
			return at, 0, ctx.Err()
		}
		now := time.Now()
		if n := b.in.Tables.Stats().EntitiesWritten; n != written {
			written, at = n, now
		}
		if quiet := now.Sub(at) >= loadQuiet; now.Sub(looked) < loadQuiet || !quiet && now.Sub(looked) < loadLook {
			continue
		}
		looked = now
		if b.hasMessages() {
			continue
		}
		pool, err := b.client.Pool(ctx, "bench")
		if err != nil {
			return at, 0, err
		}
		if left = pool.Queued + pool.Running; left <= most {
			return at, left, nil
		}
		if now.Sub(said) >= loadSay {
			said = now
			b.say(fmt.Sprintf("%d of %d jobs have ended", max(all-left, 0), all))
		}
	}
}

// awaitLooks looks until something has happened, seldom.
func (b *bencher) awaitLooks(ctx context.Context, ok func() (bool, error)) error {
	for {
		select {
		case <-time.After(loadLook):
		case <-ctx.Done():
			return ctx.Err()
		}
		if done, err := ok(); done || err != nil {
			return err
		}
	}
}

// How long and how many jobs the waiting times at a part of the rate are measured for.
const (
	pacedTime  = 10 * time.Second
	pacedLeast = 50
	pacedMost  = 1000
)

// runPaced sends jobs at random moments, so many a second on average, and measures from
// accepted to started.
func (b *bencher) runPaced(ctx context.Context, rate float64) (*benchLatency, error) {
	n := max(min(int(rate*pacedTime.Seconds()), pacedMost), pacedLeast)
	accepted := map[string]time.Time{}
	random := rand.New(rand.NewPCG(1, 2))
	due := time.Now()
	for i := range n {
		due = due.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		id := fmt.Sprintf("paced-%d", i)
		if err := b.sender.SendMessage(ctx, message("bench", id, workloads["true"].command), nil); err != nil {
			return nil, err
		}
		accepted[id] = time.Now()
	}
	if _, _, err := b.awaitEnded(ctx, 0, n); err != nil {
		return nil, err
	}
	var times []float64
	ids := slices.Sorted(maps.Keys(accepted))
	for some := range slices.Chunk(ids, 100) {
		jobs, err := b.client.Find(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			if j.StartedAt == nil || j.State != job.Succeeded {
				return nil, fmt.Errorf("job %q is %s", j.ID, j.State)
			}
			times = append(times, ms(j.StartedAt.Sub(accepted[j.ID])))
		}
	}
	if len(times) != n {
		return nil, fmt.Errorf("%d of %d jobs are known", len(times), n)
	}
	return &benchLatency{JobsPerSecond: rate, Jobs: n, AcceptedToStartedMs: rankWithP99(times)}, nil
}

// runSweep submits one sweep and waits until its last member has ended.
func (b *bencher) runSweep(ctx context.Context, command []string, members int) (*benchSweep, error) {
	document, err := json.Marshal(map[string]any{"pool": "bench", "command": command, "sweep": map[string]int{"count": members}})
	if err != nil {
		return nil, err
	}
	stored, counters, begin := b.storedBytes(), b.readCounters(), time.Now()
	if _, err := b.client.Submit(ctx, "sweep", document); err != nil {
		return nil, err
	}
	end, _, err := b.awaitEnded(ctx, 0, members)
	if err != nil {
		return nil, err
	}
	s := &benchSweep{
		Members:       members,
		JobsPerSecond: float64(members) / end.Sub(begin).Seconds(),
		PerJob:        b.readCounters().per(counters, members),
	}
	s.PerJob.addStored(b.storedBytes(), stored, members)
	j, err := b.client.Job(ctx, "sweep")
	if err == nil && (j.Sweep == nil || j.Sweep.Succeeded != members) {
		err = fmt.Errorf("the sweep is %s, and not all of its %d members succeeded", j.State, members)
	}
	return s, err
}

// runFromZero measures from an accepted message to the request for capacity, for
// pools that have never had a node.
func (b *bencher) runFromZero(ctx context.Context) (percentiles, error) {
	var times []float64
	for i := range benchEmpty {
		name := fmt.Sprintf("zero-%d", i)
		if _, err := b.client.Apply(ctx, fmt.Appendf(nil, `{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`, name)); err != nil {
			return percentiles{}, err
		}
		if err := b.sender.SendMessage(ctx, message(name, name, workloads["true"].command), nil); err != nil {
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

func rankWithP99(times []float64) percentiles {
	p, p99 := rank(times), at(times, 99)
	p.P99 = &p99
	return p
}

// at is the nearest-rank percentile.
func at(times []float64, percent int) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min((len(sorted)*percent+99)/100, len(sorted))-1]
}
