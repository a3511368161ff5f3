//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
	"dsvmpools/shared/backoff"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
)

// cloudLoad is a load under the rates of the cloud.
type cloudLoad struct {
	jobs, pools int
	divisor     int // of the rates; 0 = 1
}

// The sender of the load does what docs/jobs.md asks of senders of many jobs.
const (
	cloudBatch = 100         // messages sent at once
	cloudPause = time.Second // after a refusal: until the service counts a new second
)

const (
	cloudMostPools = 8
	cloudTick      = 10 * time.Millisecond // between two looks at the counters
)

// runCloudCommand is `dsvm bench --cloud-rates`.
func runCloudCommand(ctx context.Context, p *cli.Program, o benchOptions) error {
	dir, err := os.MkdirTemp("", "dsvm-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := program()
	if err != nil {
		return err
	}
	say := func(what string) { fmt.Fprintln(p.Err, "dsvm:", what) }
	r, err := runCloud(ctx, cloudLoad{jobs: o.jobs, pools: o.pools}, self, dir, say)
	if err != nil {
		return err
	}
	return answerBench(p, r)
}

// cloudBencher runs one load under the rates of the cloud.
type cloudBencher struct {
	*bencher
	load       cloudLoad
	pace       backoff.Pace // of the sender, in messages
	userErrors int          // answers of the HTTP API, and sends, that were errors
}

// runCloud starts an instance with the rates of the cloud and warm pools, sends the jobs,
// and waits until all have ended.
func runCloud(ctx context.Context, load cloudLoad, program []string, dir string, say func(string)) (r cloudResult, err error) {
	b := &cloudBencher{bencher: &bencher{dir: filepath.Join(dir, "instance")}, load: load}
	say("starting an instance with the rates of the cloud")
	b.in, err = local.Start(ctx, local.Config{
		Dir:          b.dir,
		Program:      program,
		Log:          slog.LevelError,
		CloudRates:   true,
		RatesDivisor: load.divisor,
	})
	if err != nil {
		return r, err
	}
	defer b.in.Close()
	if err := b.makePools(ctx); err != nil {
		return r, err
	}
	say(fmt.Sprintf("%d jobs, pools: %d", load.jobs, load.pools))
	before, begin := b.readCloudCounters(), time.Now()
	sent := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { sent <- b.sendJobs(ctx) }()
	end, after, err := b.awaitPools(ctx, sent)
	if err != nil {
		return r, err
	}
	r = newCloudResult(load, describeMachine(dir), end.Sub(begin), before, after)
	r.UserErrors, r.DeadLettered = b.userErrors, b.countDead()
	r.Succeeded, err = b.countSucceeded(ctx)
	return r, err
}

func (b *cloudBencher) poolName(i int) string { return fmt.Sprintf("bench-%d", i%b.load.pools) }

// makePools makes the pools and waits for their nodes.
func (b *cloudBencher) makePools(ctx context.Context) (err error) {
	if b.client, err = client.New(b.in.URL, b.in.Key); err != nil {
		return err
	}
	c, err := azservicebus.NewClientFromConnectionString(b.in.ServiceBus, &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}, // sendBatch repeats what is refused
	})
	if err != nil {
		return err
	}
	if b.sender, err = c.NewSender("jobs", nil); err != nil {
		return err
	}
	for i := range b.load.pools {
		spec := fmt.Sprintf(`{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"min":2,"max":2},"idleTimeout":"1h"}`, b.poolName(i))
		if _, err := b.client.Apply(ctx, []byte(spec)); err != nil {
			return err
		}
	}
	return b.until(ctx, func() (bool, error) {
		for i := range b.load.pools {
			pool, err := b.client.Pool(ctx, b.poolName(i))
			if err != nil || pool.Nodes.Ready != 2 {
				return false, err
			}
		}
		return true, nil
	})
}

// sendJobs sends the jobs in batches, to the pools in turn, as fast as Service Bus takes
// them.
func (b *cloudBencher) sendJobs(ctx context.Context) error {
	command := workloads["true"].command
	for from := 0; from < b.load.jobs; from += cloudBatch {
		batch, err := b.sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		for i := from; i < min(from+cloudBatch, b.load.jobs); i++ {
			if err := batch.AddMessage(message(b.poolName(i), fmt.Sprintf("load-%d", i), command), nil); err != nil {
				return err
			}
		}
		if err := b.sendBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (b *cloudBencher) sendBatch(ctx context.Context, batch *azservicebus.MessageBatch) error {
	n := int(batch.NumMessages())
	wait := b.pace.Reserve(time.Now(), n)
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		err := b.sender.SendMessageBatch(ctx, batch, nil)
		if !bus.IsBusy(err) {
			return err
		}
		b.pace.Refuse(time.Now(), n)
		wait = cloudPause + b.pace.Reserve(time.Now(), n)
	}
}

// awaitPools returns when all jobs were sent and have ended: when the last row was written,
// and the counters at that time.
func (b *cloudBencher) awaitPools(ctx context.Context, sent <-chan error) (at time.Time, c cloudCounters, err error) {
	written, all := int64(-1), false
	looked := time.Now()
	for {
		select {
		case err := <-sent:
			if err != nil {
				return at, c, fmt.Errorf("sending jobs: %w", err)
			}
			all, sent = true, nil
		case <-time.After(cloudTick):
		case <-ctx.Done():
			return at, c, ctx.Err()
		}
		now := time.Now()
		if n := b.in.Tables.Stats().EntitiesWritten; n != written {
			written, at, c = n, now, b.readCloudCounters()
		}
		if now.Sub(looked) < loadLook || b.hasMessages() {
			continue
		}
		looked = now
		if left, err := b.countLeft(ctx); err == nil && left == 0 && all {
			return at, c, nil
		}
	}
}

// countLeft is how many jobs have not ended. An error is one that a user would see.
func (b *cloudBencher) countLeft(ctx context.Context) (left int, err error) {
	for i := range b.load.pools {
		pool, err := b.client.Pool(ctx, b.poolName(i))
		if err != nil {
			b.userErrors++
			return 0, err
		}
		left += pool.Queued + pool.Running
	}
	return left, nil
}

// countSucceeded is how many jobs have succeeded.
func (b *cloudBencher) countSucceeded(ctx context.Context) (n int, err error) {
	for i := range b.load.pools {
		filter := client.JobFilter{Pool: b.poolName(i), States: []job.State{job.Succeeded}}
		jobs, err := b.client.Jobs(ctx, filter, b.load.jobs)
		if err != nil {
			return n, err
		}
		n += len(jobs)
	}
	if n != b.load.jobs {
		err = fmt.Errorf("%d jobs succeeded, not %d", n, b.load.jobs)
	}
	return n, err
}

// countDead is how many messages are dead or were rejected.
func (b *cloudBencher) countDead() (n int) {
	q := bus.DefaultQueues
	for _, name := range []string{q.Jobs, q.Pools, q.PoolEvents, q.NodeEvents, q.Work, q.Rejected} {
		_, _, _, dead := b.in.Bus.Counts(name)
		n += dead
	}
	rejected, _, _, _ := b.in.Bus.Counts(q.Rejected)
	return n + rejected
}

// checkCloud returns an error if an option does not go with --cloud-rates.
func (o benchOptions) checkCloud(isSaid func(string) bool) error {
	switch {
	case !o.cloudRates && o.pools != 1:
		return cli.WrongUse("--pools goes with --cloud-rates alone")
	case !o.cloudRates:
		return nil
	case o.pools < 1 || o.pools > cloudMostPools:
		return cli.WrongUse("--pools is %d; write 1 to %d", o.pools, cloudMostPools)
	case o.jobs < 1 || o.jobs > benchMostJobs:
		return cli.WrongUse("--jobs is %d; write 1 to %d", o.jobs, benchMostJobs)
	case o.runs != 1 || o.sweep != 0 || o.queued != 0 || o.peersOnly || o.job != "true" || isSaid("load"):
		return cli.WrongUse("--cloud-rates runs one load of /bin/true; only --jobs, --pools and --timeout go with it")
	}
	return nil
}
