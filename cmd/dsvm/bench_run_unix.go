//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools"
	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/collector"
)

// What the benchmark runs. The pool is warm: two nodes of four processors each,
// so that eight jobs run side by side.
const (
	benchPool     = `{"name":"bench","sizes":["Standard_D4s_v5"],"nodes":{"min":2,"max":2},"idleTimeout":"1h"}`
	benchParallel = 8
	benchAtRest   = 60 // jobs one at a time
	benchEmpty    = 10 // pools that begin at zero
)

// bencher is one run of the benchmark.
type bencher struct {
	in     *local.Instance
	dir    string
	client *client.Client
	sender *azservicebus.Sender

	say       func(string) // for people who wait
	succeeded int          // jobs of the pool, as far as they are counted

	mu    sync.Mutex
	asked map[string]time.Time // first request for capacity, by scale set
}

// runBenchOnce runs the benchmark in a folder of its own below dir. say names each part
// when it begins.
func runBenchOnce(ctx context.Context, o benchOptions, dir string, say func(string)) (r benchResult, err error) {
	if dir, err = os.MkdirTemp(dir, "run-"); err != nil {
		return r, err
	}
	work := workloads[o.job]
	r.Machine, r.Job, r.Jobs, r.Queued = describeMachine(dir), work.title, o.jobs, o.queued
	say("the machine's own limit")
	r.BareJobsPerSecond = runBare(ctx, workloads["true"].command, max(min(o.jobs, benchMostBare), benchLeastBare))
	if o.job != "true" {
		r.BareSameJobPerSecond = runBare(ctx, work.command, min(o.jobs, work.bare))
	}
	if r.Peers, r.Absent, err = runPeers(ctx, o, dir, say); err != nil || o.peersOnly {
		return r, err
	}
	self, err := program()
	if err != nil {
		return r, err
	}
	say("starting an instance with a warm pool")
	b, err := startBencher(ctx, self, filepath.Join(dir, "instance"))
	if err != nil {
		return r, err
	}
	defer b.in.Close()
	b.say = say
	return r, b.measure(ctx, o, &r, say)
}

// measure runs the parts of the benchmark on an instance with a warm pool.
func (b *bencher) measure(ctx context.Context, o benchOptions, r *benchResult, say func(string)) (err error) {
	say("one job at a time")
	if r.AcceptedToStartedMs, r.PerJob.AtRest, err = b.runAtRest(ctx, benchAtRest); err != nil {
		return err
	}
	if o.jobs > 0 {
		if o.queued > 0 {
			say(fmt.Sprintf("%d jobs into the pool", o.queued))
		}
		release, err := b.fillQueue(ctx, o.queued)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%d jobs at once", o.jobs))
		load, err := b.runLoad(ctx, "load", workloads[o.job].command, o.jobs, release)
		if err != nil {
			return err
		}
		r.JobsPerSecond, r.PerJob.UnderLoad, r.MemoryMB = load.rate(), load.perJob, load.memory
		r.Ratio = r.JobsPerSecond / r.BareJobsPerSecond
	}
	if share, err := o.loadShare(); err != nil {
		return err
	} else if share > 0 && o.jobs > 0 && o.queued == 0 {
		say(fmt.Sprintf("jobs at %s of that rate", o.load))
		if r.AtLoad, err = b.runPaced(ctx, r.JobsPerSecond*share); err != nil {
			return err
		}
	}
	if o.sweep > 0 {
		say(fmt.Sprintf("a sweep of %d members", o.sweep))
		if r.Sweep, err = b.runSweep(ctx, workloads[o.job].command, o.sweep); err != nil {
			return err
		}
		r.Sweep.Ratio = r.Sweep.JobsPerSecond / r.BareJobsPerSecond
	}
	say("pools that begin at zero")
	r.AcceptedToCapacityRequestMs, err = b.runFromZero(ctx)
	return err
}

// startBencher starts an instance in the folder, with a warm pool.
func startBencher(ctx context.Context, program []string, dir string) (*bencher, error) {
	collector.Tune(os.Getenv, local.MemoryGoal) // as dsvm up does
	b := &bencher{asked: map[string]time.Time{}, dir: dir, say: func(string) {}}
	var err error
	b.in, err = local.Start(ctx, local.Config{
		Dir:        dir,
		Program:    program,
		AgentEnv:   []string{"DSVM_SYNC_COUNT=" + b.syncCount()},
		Log:        slog.LevelWarn,
		OnCapacity: b.recordCapacity,
	})
	if err != nil {
		return nil, err
	}
	if err := b.connect(ctx); err != nil {
		b.in.Close()
		return nil, err
	}
	return b, nil
}

func (b *bencher) recordCapacity(set string, n int, at time.Time) {
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

// restLook is the time between two looks at something that one job at a time has to
// reach. The load has looks of its own, see awaitEnded.
const restLook = 5 * time.Millisecond

// until looks until something has happened.
func (b *bencher) until(ctx context.Context, ok func() (bool, error)) error {
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-time.After(restLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// describeMachine says what the figures depend on.
func describeMachine(dir string) benchMachine {
	m := benchMachine{CPUs: runtime.NumCPU(), FileSystem: fileSystem(dir), MessageMost: messageBatchSize()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Processor = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// messageBatchSize is how many messages a function takes at once, as host.json says.
func messageBatchSize() int {
	var host struct {
		Extensions struct {
			ServiceBus struct {
				Most int `json:"maxMessageBatchSize"`
			} `json:"serviceBus"`
		} `json:"extensions"`
	}
	text, err := dsvmpools.Files.ReadFile("host.json")
	if err != nil || json.Unmarshal(text, &host) != nil {
		return 0
	}
	return host.Extensions.ServiceBus.Most
}
