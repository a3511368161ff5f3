//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/collector"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// demoTime bounds the whole demonstration.
const demoTime = 2 * time.Minute

// lookEvery is how often the demonstration looks at its jobs and its pool.
const lookEvery = 200 * time.Millisecond

// demoPool grows from nothing to three nodes of two processors each.
const demoPool = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":3},"idleTimeout":"2s"}`

// demoJob is a message of the demonstration, and how its job should end.
type demoJob struct {
	id       string
	body     string
	state    job.State
	attempts int
	copies   int
}

// demoJobs are 20 jobs, most of them ordinary, in 21 messages: one comes twice.
func demoJobs() []demoJob {
	command := func(id, extra, script string) string {
		return fmt.Sprintf(`{"id":%q,"pool":"cpu","team":%q,"user":"demo","command":["sh","-c",%q]%s}`, id,
			map[bool]string{true: "vision", false: "speech"}[len(id)%2 == 0], script, extra)
	}
	var jobs []demoJob
	for i := range 15 {
		id := fmt.Sprintf("hello-%d", i+1)
		jobs = append(jobs, demoJob{id, command(id, "", `echo "hello from $DSVM_NODE"; sleep 0.5`), job.Succeeded, 1, 1})
	}
	return append(
		jobs,
		demoJob{"fails", command("fails", "", "echo 'no such data' >&2; exit 3"), job.Failed, 1, 1},
		demoJob{"retried",
			command("retried", `,"retry":{"max":2,"backoff":"1s"}`, `[ "$DSVM_ATTEMPT" -gt 1 ] || exit 7; echo better`),
			job.Succeeded, 2, 1},
		demoJob{"times-out", command("times-out", `,"timeout":"1s"`, "sleep 600"), job.TimedOut, 1, 1},
		demoJob{"doubled", command("doubled", "", "echo once"), job.Succeeded, 1, 2},
		demoJob{"malformed", `{"id":"malformed","pool":"cpu","comand":["python","train.py"]}`, job.Rejected, 0, 1},
	)
}

// demonstration is one run of the demo.
type demonstration struct {
	p      *cli.Program
	in     *local.Instance
	client *client.Client
	jobs   []demoJob
	begin  time.Time
	phases []phase
	git    *gitHost
	push   wire.PushOutcome

	mu    sync.Mutex
	asked time.Time // first request for capacity
}

type phase struct {
	what string
	took time.Duration
}

// demo shows the main job from end to end, and checks that all of it happened.
func demo(p *cli.Program) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo [--keep]",
		Short: "Show a pool that grows from zero, runs jobs and goes back to zero",
		Long: `Run an instance of its own in a temporary folder, send 21 messages for 20 jobs to
its queue, have a Git push start the 21st job, and watch a pool grow from
zero, run them and go back to zero: one of them fails, one is retried, one times
out, one comes twice and one is malformed, and the result of the push shows on
its commit. The exit code is 0 only if all of it happened.`,
		Example: "  dsvm demo\n  dsvm demo --keep",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "dsvm-demo-")
			if err != nil {
				return err
			}
			if keep {
				defer fmt.Fprintf(p.Err, "dsvm: everything is kept in %s; `dsvm up --data %s` goes on with it\n", dir, dir)
			} else {
				defer os.RemoveAll(dir)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
			defer cancel()
			d := &demonstration{p: p, jobs: demoJobs(), begin: time.Now()}
			if err := d.run(ctx, dir); err != nil || !keep {
				return errors.Join(err, d.close())
			}
			fmt.Fprintf(p.Err, "dsvm: the page is at %s; Ctrl-C stops the instance\n", d.in.PageURL())
			<-cmd.Context().Done()
			return d.close()
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the instance's folder, with all logs, and have it run until Ctrl-C")
	cmd.AddCommand(demoInteractive(p))
	return cmd
}

func (d *demonstration) run(ctx context.Context, dir string) error {
	var err error
	if d.git, err = newGitHost(); err != nil {
		return err
	}
	defer d.git.server.Close()
	if err := d.start(ctx, dir); err != nil {
		return err
	}
	if _, err := d.client.Apply(ctx, []byte(demoPool)); err != nil {
		return err
	}
	sent := time.Now()
	if err := d.send(ctx); err != nil {
		return err
	}
	if err := d.pushCommit(ctx); err != nil {
		return err
	}
	jobs, err := d.watch(ctx)
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := d.awaitStatus(ctx); err != nil {
		return err
	}
	if err := d.awaitEmptyPool(ctx); err != nil {
		return err
	}
	d.phase("messages sent to the last job ended", ended.Sub(sent))
	d.phase("last job ended to an empty pool", time.Since(ended))
	d.phase("all of it", time.Since(d.begin))
	if err := d.awaitLedger(ctx); err != nil {
		return err
	}
	fmt.Fprintln(d.p.Out)
	d.show(ctx, "job", "list", "--limit", "50")
	fmt.Fprintln(d.p.Out)
	d.show(ctx, "job", "list", "--state", "rejected")
	fmt.Fprintln(d.p.Out)
	d.show(ctx, "usage", "--by", "team")
	fmt.Fprintln(d.p.Out)
	d.showPush()
	fmt.Fprintln(d.p.Out)
	d.times(jobs, sent)
	if err := d.check(jobs); err != nil {
		return err
	}
	fmt.Fprintln(d.p.Out, "pool cpu: 0 nodes")
	return nil
}

// close ends the instance, if it has begun.
func (d *demonstration) close() error {
	if d.in == nil {
		return nil
	}
	return d.in.Close()
}

func (d *demonstration) phase(what string, took time.Duration) {
	d.phases = append(d.phases, phase{what, took})
}

func (d *demonstration) start(ctx context.Context, dir string) error {
	collector.Tune(os.Getenv, local.MemoryGoal)
	self, err := program()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.p.Err, "dsvm: starting an instance in %s\n", dir)
	d.in, err = local.Start(
		ctx,
		local.Config{
			Dir:      dir,
			Program:  self,
			Settings: d.git.settings(),
			Log:      slog.LevelInfo,
			OnCapacity: func(_ string, n int, at time.Time) {
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.asked.IsZero() && n > 0 {
					d.asked = at
				}
			},
		},
	)
	if err != nil {
		return err
	}
	d.phase("instance started", time.Since(d.begin))
	d.client, err = client.New(d.in.URL, d.in.Key)
	return err
}

// send drops the messages on the queue as any client would.
func (d *demonstration) send(ctx context.Context) error {
	bus, err := azservicebus.NewClientFromConnectionString(d.in.ServiceBus, nil)
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	sender, err := bus.NewSender("jobs", nil)
	if err != nil {
		return err
	}
	n := 0
	for _, j := range d.jobs {
		for range j.copies {
			message := &azservicebus.Message{Body: []byte(j.body), ContentType: to.Ptr("application/json")}
			if err := sender.SendMessage(ctx, message, nil); err != nil {
				return err
			}
			n++
		}
	}
	fmt.Fprintf(d.p.Err, "dsvm: %d messages for %d jobs are on the queue `jobs`\n", n, len(d.jobs))
	return nil
}

// watch follows the jobs until each has ended, and prints how far they are.
func (d *demonstration) watch(ctx context.Context) (map[string]wire.Job, error) {
	live := d.p.Err == io.Writer(os.Stderr) && term.IsTerminal(int(os.Stderr.Fd()))
	last := ""
	for {
		jobs := map[string]wire.Job{}
		ended := 0
		for _, j := range d.jobs {
			got, err := d.client.Job(ctx, j.id)
			if fault.CodeOf(err) == fault.NotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			jobs[j.id] = got
			if got.State.Final() {
				ended++
			}
		}
		pool, err := d.client.Pool(ctx, "cpu")
		if err != nil {
			return nil, err
		}
		now := fmt.Sprintf("%2d of %d jobs ended, %2d running, %2d waiting; nodes: %d creating or booting, %d ready, %d busy",
			ended, len(d.jobs), pool.Running, pool.Queued, pool.Nodes.Creating+pool.Nodes.Booting, pool.Nodes.Ready, pool.Nodes.Busy)
		switch {
		case live:
			fmt.Fprintf(d.p.Err, "\r\033[Kdsvm: %s", now)
		case now != last:
			fmt.Fprintln(d.p.Err, "dsvm:", now)
		}
		last = now
		if ended == len(d.jobs) {
			if live {
				fmt.Fprintln(d.p.Err)
			}
			return jobs, nil
		}
		if err := d.pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (d *demonstration) pause(ctx context.Context) error {
	select {
	case <-time.After(lookEvery):
		return nil
	case <-ctx.Done():
		return errors.New("the demonstration took too long, or was stopped; run it with --keep and look at the logs")
	}
}

// awaitEmptyPool waits until the pool has no nodes any more.
func (d *demonstration) awaitEmptyPool(ctx context.Context) error {
	fmt.Fprintln(d.p.Err, "dsvm: all jobs have ended; the idle nodes leave after 2s")
	for {
		pool, err := d.client.Pool(ctx, "cpu")
		if err != nil {
			return err
		}
		if pool.Nodes.Total == 0 && len(d.in.Compute.Instances()) == 0 {
			return nil
		}
		if err := d.pause(ctx); err != nil {
			return err
		}
	}
}

// awaitLedger waits until the ledger has the use of all that ran.
func (d *demonstration) awaitLedger(ctx context.Context) error {
	want := 0
	for _, j := range d.jobs {
		if j.attempts > 0 {
			want++
		}
	}
	for {
		report, err := d.client.Usage(ctx, usage.Query{By: usage.ByJob}, 0)
		if err != nil {
			return err
		}
		got, nodes := 0, false
		for _, g := range report.Items {
			if g.Key != "" {
				got++
			} else if g.NodeSeconds > 0 {
				nodes = true
			}
		}
		if got == want && nodes && report.Open == (usage.Open{}) {
			return nil
		}
		if err := d.pause(ctx); err != nil {
			return fmt.Errorf("the ledger has %d of %d jobs: %w", got, want, err)
		}
	}
}

// show runs one of the program's own commands on the instance.
func (d *demonstration) show(ctx context.Context, args ...string) {
	p := *d.p
	p.Getenv = func(name string) string {
		switch name {
		case "DSVM_URL":
			return d.in.URL
		case "DSVM_KEY":
			return d.in.Key
		}
		return d.p.Getenv(name)
	}
	p.Main(ctx, args)
}

// times prints how long each phase took.
func (d *demonstration) times(jobs map[string]wire.Job, sent time.Time) {
	w := tabwriter.NewWriter(d.p.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PHASE\tTIME")
	line := func(what string, took time.Duration) { fmt.Fprintf(w, "%s\t%s\n", what, took.Round(time.Millisecond)) }
	d.mu.Lock()
	asked := d.asked
	d.mu.Unlock()
	first := time.Time{}
	for _, j := range jobs {
		if j.StartedAt != nil && (first.IsZero() || j.StartedAt.Before(first)) {
			first = *j.StartedAt
		}
	}
	line(d.phases[0].what, d.phases[0].took)
	line("first message sent to capacity requested", asked.Sub(sent))
	line("capacity requested to first job started", first.Sub(asked))
	for _, p := range d.phases[1:] {
		line(p.what, p.took)
	}
	_ = w.Flush() // to a terminal
}

// check compares how the jobs ended with how they should end.
func (d *demonstration) check(jobs map[string]wire.Job) error {
	var wrong []string
	for _, want := range d.jobs {
		got := jobs[want.id]
		if got.State != want.state || len(got.Attempts) != want.attempts {
			wrong = append(
				wrong,
				fmt.Sprintf("job %s is %s after %d attempts, not %s after %d", want.id, got.State, len(got.Attempts), want.state,
					want.attempts),
			)
		}
	}
	if _, err := os.Stat(filepath.Join(d.in.Share, "jobs", "cpu", "hello-1", "1", "stdout.log")); err != nil {
		wrong = append(wrong, "the log of hello-1 is not on the share")
	}
	if _, _, locked, dead := d.in.Bus.Counts("jobs"); locked+dead > 0 {
		wrong = append(wrong, fmt.Sprintf("%d messages are still locked and %d dead-lettered on `jobs`", locked, dead))
	}
	if active, _, _, _ := d.in.Bus.Counts("rejected"); active != 1 {
		wrong = append(wrong, fmt.Sprintf("%d messages are on `rejected`, not 1", active))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}
