//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dsvmpools/cmd/dsvm/cli"
)

// benchOptions is what a person asks the benchmark for.
type benchOptions struct {
	jobs      int
	runs      int
	job       string // name of a workload
	sweep     int    // members of one sweep; 0 = none
	load      string // share of the measured rate, such as 10%; 0 = not measured
	queued    int    // jobs that wait in the pool during the load
	peersOnly bool
	timeout   time.Duration // of all runs; 0 = as long as they may need

	cloudRates bool // one load under the rates of the cloud, see bench_cloud_unix.go
	pools      int  // of that load
}

// Bounds of the options, and how long a benchmark may take without --timeout: it ends one
// that stands still, and no slow one.
const (
	benchMostJobs  = 1_000_000
	benchMostRuns  = 99
	benchLeastLoad = 1                     // percent: 50 jobs at a smaller part take hours
	benchRunTime   = 45 * time.Minute      // of one run, with all peers
	benchJobTime   = 50 * time.Millisecond // of each job more: a tenth of what a slow machine can do
)

// limit is how long the benchmark may take.
func (o benchOptions) limit() time.Duration {
	if o.timeout > 0 {
		return o.timeout
	}
	return time.Duration(o.runs) * (benchRunTime + time.Duration(o.jobs+o.queued+o.sweep)*benchJobTime)
}

// benchResult is what the benchmark prints: one run, or the median of each figure of
// several.
type benchResult struct {
	Machine                     benchMachine  `json:"machine"`
	Job                         string        `json:"job"` // what each job of the load runs
	Jobs                        int           `json:"jobs"`
	Queued                      int           `json:"queued"` // more jobs that waited in the pool meanwhile
	JobsPerSecond               float64       `json:"jobsPerSecond"`
	BareJobsPerSecond           float64       `json:"bareJobsPerSecond"` // of /bin/true
	Ratio                       float64       `json:"ratio"`
	BareSameJobPerSecond        float64       `json:"bareSameJobPerSecond,omitempty"` // of the job of the load, if that is another
	AcceptedToStartedMs         percentiles   `json:"acceptedToStartedMs"`
	AtLoad                      *benchLatency `json:"atLoad,omitempty"`
	AcceptedToCapacityRequestMs percentiles   `json:"acceptedToCapacityRequestMs"`
	PerJob                      struct {
		AtRest    perJob `json:"atRest"`
		UnderLoad perJob `json:"underLoad"`
	} `json:"perJob"`
	Sweep    *benchSweep   `json:"sweep,omitempty"`
	MemoryMB *benchMemory  `json:"memoryMB,omitempty"`
	Peers    []benchPeer   `json:"peers,omitempty"`
	Absent   []absentPeer  `json:"absentPeers,omitempty"`
	Runs     []benchResult `json:"runs,omitempty"` // each run, if there are several
}

// benchMachine says where the figures come from.
type benchMachine struct {
	CPUs        int    `json:"cpus"`
	FileSystem  string `json:"fileSystem"`          // of the temporary folder
	Processor   string `json:"processor,omitempty"` // its name
	MessageMost int    `json:"messageBatchSize"`    // messages that a function takes at once, from host.json
}

// benchLatency is how long jobs wait at a part of the measured rate.
type benchLatency struct {
	JobsPerSecond       float64     `json:"jobsPerSecond"`
	Jobs                int         `json:"jobs"`
	AcceptedToStartedMs percentiles `json:"acceptedToStartedMs"`
}

// benchSweep is one sweep from its acceptance to the end of its last member.
type benchSweep struct {
	Members       int     `json:"members"`
	JobsPerSecond float64 `json:"jobsPerSecond"`
	Ratio         float64 `json:"ratio"`
	PerJob        perJob  `json:"perJob"`
}

type percentiles struct {
	P50 float64  `json:"p50"`
	P95 float64  `json:"p95"`
	P99 *float64 `json:"p99,omitempty"`
}

// bench measures what a job costs and how fast jobs go.
func bench(p *cli.Program) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench [--jobs N]",
		Short: "Measure how fast jobs run here, and what each costs",
		Long: `Run an instance of its own in a temporary folder, drop jobs on the queue against a
warm pool of 8 slots, and print: jobs per second beside what a bare loop on this
machine starts and reaps with the same parallelism; the times from accepted to
started, at rest and at a part of the measured rate, and from accepted to the request
for capacity; what each job costs in messages, table transactions, entities, bytes
written, syncs and processor time; the memory of each part; and the rates of other
schedulers that are on this machine. With -o json it is one JSON object.

With --cloud-rates the servers of the instance keep the rates of Table Storage and of
Service Bus Standard, as with dsvm up. It prints what is left of the rate of jobs, how
much of each limit they use, which one bounds them, and how many requests were refused.

The temporary folder is in TMPDIR, with all data of the instance: choose the disk to
measure with it. The kernel of a disk without a journal makes new files slowly for
some minutes after old ones were deleted, so that each benchmark spoils the next one.

When it ends early, by an error, its limit (--timeout) or Ctrl-C, it prints the runs that
are complete.`,
		Example: `  dsvm bench --jobs 20000 --runs 5
  dsvm bench --jobs 2000 --job sleep
  dsvm bench --jobs 0 --sweep 100000 -o json
  dsvm bench --jobs 20000 --queued 200000
  dsvm bench --cloud-rates --jobs 60000 --pools 2
  dsvm bench --peer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			if err := checkRoom(os.TempDir(), o.room()); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.limit())
			defer cancel()
			if o.cloudRates {
				return o.explain(ctx, runCloudCommand(ctx, p, o))
			}
			r, err := runBench(ctx, p, o)
			if r.isMeasured() {
				if failed := answerBench(p, r); failed != nil {
					return failed
				}
			}
			return o.explain(ctx, err)
		},
	}
	cmd.Flags().IntVar(&o.jobs, "jobs", 1000, "jobs under load")
	cmd.Flags().IntVar(&o.runs, "runs", 1, "runs; the median of each figure counts")
	cmd.Flags().StringVar(&o.job, "job", "true", "what a job of the load runs: "+workloadNames())
	cmd.Flags().IntVar(&o.sweep, "sweep", 0, "members of one sweep that is run to its end as well")
	cmd.Flags().StringVar(&o.load, "load", "10%", "part of the measured rate at which waiting times are measured as well; 0 = none")
	cmd.Flags().IntVar(&o.queued, "queued", 0, "jobs that wait in the pool before those of the load come")
	cmd.Flags().BoolVar(&o.peersOnly, "peer", false, "only measure the bare loop and the other schedulers on this machine")
	cmd.Flags().BoolVar(&o.cloudRates, "cloud-rates", false, "run one load under the rates of the cloud instead; says which limit bounds it")
	cmd.Flags().IntVar(&o.pools, "pools", 1, "pools of the load with --cloud-rates")
	cmd.Flags().Var(cli.DurationFlag(&o.timeout), "timeout",
		"longest time of all runs, such as 30m, 2h (default: 45 minutes for each run and 50 ms for each of its jobs)")
	return cmd
}

// answerBench prints a result, for people or as JSON.
func answerBench(p *cli.Program, r interface{ print(to io.Writer) error }) error {
	if !p.AnswersJSON() {
		return r.print(p.Out)
	}
	out := json.NewEncoder(p.Out)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

// explain says what to do when the time was up. Whatever failed when a person stopped the
// benchmark, it was stopped.
func (o benchOptions) explain(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the benchmark has not ended within %s; `--timeout` gives it more time", o.limit())
	}
	return ctx.Err()
}

// What the folders of a benchmark take: the stores with their logs, and of each job its rows
// and what it leaves on the share.
const (
	roomOfRun = 128 << 20 // bytes
	roomOfJob = 8 << 10
	roomOfLog = 32 << 10 // of a job that writes something, more
)

// room is how many bytes the benchmark writes at most. The folders of all runs are kept to
// the end.
func (o benchOptions) room() int64 {
	if o.peersOnly {
		return 0
	}
	each, jobs := int64(roomOfJob), int64(o.jobs+o.queued+o.sweep)
	if o.job == "print" || o.job == "output" {
		each += roomOfLog
	}
	return int64(o.runs) * (roomOfRun + jobs*each)
}

// checkRoom returns an error unless a folder has so many bytes free: an instance whose disk
// is full stands still.
func checkRoom(dir string, need int64) error {
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return fmt.Errorf("folder for temporary files %q: %w; set TMPDIR", dir, err)
	}
	if free := at.Bavail * uint64(at.Bsize); free < uint64(need) {
		const mb = 1 << 20
		return fmt.Errorf("%q has %d MB free, and the benchmark needs up to %d MB; set TMPDIR to a folder with more", dir, free/mb, need/mb)
	}
	return nil
}

// check returns an error that says which option is wrong.
// isSaid reports whether an option was written.
func (o benchOptions) check(isSaid func(option string) bool) error {
	if isSaid("timeout") && o.timeout <= 0 {
		return cli.WrongUse("--timeout is %s; write a time such as 30m", o.timeout)
	}
	if err := o.checkCloud(isSaid); err != nil || o.cloudRates {
		return err
	}
	if o.peersOnly && (o.sweep > 0 || o.queued > 0 || isSaid("load")) {
		return cli.WrongUse("--peer runs no jobs here; only --jobs, --job, --runs and --timeout go with it")
	}
	if _, ok := workloads[o.job]; !ok {
		return cli.WrongUse("--job is %q; write %s", o.job, workloadNames())
	}
	least := 1
	if o.sweep > 0 {
		least = 0
	}
	for _, n := range []struct {
		name            string
		is, least, most int
	}{
		{"jobs", o.jobs, least, benchMostJobs}, {"runs", o.runs, 1, benchMostRuns},
		{"sweep", o.sweep, 0, benchMostJobs}, {"queued", o.queued, 0, benchMostJobs},
	} {
		if n.is < n.least || n.is > n.most {
			return cli.WrongUse("--%s is %d; write %d to %d", n.name, n.is, n.least, n.most)
		}
	}
	if o.queued > 0 && o.sweep > 0 {
		return cli.WrongUse("--sweep would wait for the jobs of --queued; use one of them")
	}
	_, err := o.loadShare()
	return err
}

// loadShare is the part of the measured rate at which waiting times are measured.
func (o benchOptions) loadShare() (float64, error) {
	if o.load == "0" {
		return 0, nil
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(o.load, "%"), 64)
	if err != nil || !strings.HasSuffix(o.load, "%") || !(percent >= benchLeastLoad && percent <= 100) { // NaN is neither
		return 0, cli.WrongUse("--load is %q; write %d%% to 100%%, or 0 for none", o.load, benchLeastLoad)
	}
	return percent / 100, nil
}

// runBench runs the benchmark as often as it is asked for. With an error, the result is
// that of the runs before it. The folders of all runs are deleted at the end: deleting
// slows down the run after it on some disks.
func runBench(ctx context.Context, p *cli.Program, o benchOptions) (benchResult, error) {
	dir, err := os.MkdirTemp("", "dsvm-bench-")
	if err != nil {
		return benchResult{}, err
	}
	defer os.RemoveAll(dir)
	return repeatBench(o.runs, func(run int) (benchResult, error) {
		say := func(what string) {
			if o.runs > 1 {
				what = fmt.Sprintf("run %d of %d: %s", run, o.runs, what)
			}
			fmt.Fprintln(p.Err, "dsvm:", what)
		}
		one, err := runBenchOnce(ctx, o, dir, say)
		if err == nil && o.runs > 1 {
			say(one.sentence())
		}
		return one, err
	})
}

// repeatBench is the result of several runs, or of those before the first that fails.
func repeatBench(runs int, runOnce func(run int) (benchResult, error)) (r benchResult, err error) {
	var all []benchResult
	for len(all) < runs && err == nil {
		var one benchResult
		if one, err = runOnce(len(all) + 1); err == nil {
			all = append(all, one)
		}
	}
	switch {
	case len(all) == 0:
		return r, err
	case runs == 1:
		return all[0], nil
	}
	r, failed := medianResult(all)
	r.Runs = all
	return r, errors.Join(failed, err)
}

// isMeasured reports whether a run was completed.
func (r benchResult) isMeasured() bool { return r.BareJobsPerSecond > 0 }

// medianResult is the median of each figure of several runs.
func medianResult(all []benchResult) (r benchResult, err error) {
	trees := make([]any, len(all))
	for i, one := range all {
		text, err := json.Marshal(one)
		if err != nil {
			return r, err
		}
		if err := json.Unmarshal(text, &trees[i]); err != nil {
			return r, err
		}
	}
	text, err := json.Marshal(medianTree(trees))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// medianTree takes the median of each number of JSON values of one shape; of all else it
// takes the first one's.
func medianTree(all []any) any {
	switch first := all[0].(type) {
	case float64:
		numbers := make([]float64, 0, len(all))
		for _, v := range all {
			if n, ok := v.(float64); ok {
				numbers = append(numbers, n)
			}
		}
		return median(numbers)
	case map[string]any:
		out := map[string]any{}
		for key := range first {
			out[key] = medianTree(pick(all, func(v map[string]any) (any, bool) { value, ok := v[key]; return value, ok }))
		}
		return out
	case []any:
		out := make([]any, len(first))
		for i := range first {
			out[i] = medianTree(pick(all, func(v []any) (any, bool) {
				if i < len(v) {
					return v[i], true
				}
				return nil, false
			}))
		}
		return out
	default:
		return first
	}
}

// pick takes a part of each value that has the shape and the part.
func pick[T any](all []any, part func(T) (any, bool)) (parts []any) {
	for _, v := range all {
		if shaped, ok := v.(T); ok {
			if one, ok := part(shaped); ok {
				parts = append(parts, one)
			}
		}
	}
	return parts
}

// median is the middle number, or the mean of the two in the middle.
func median(numbers []float64) float64 {
	slices.Sort(numbers)
	n := len(numbers)
	if n == 0 {
		return 0
	}
	return (numbers[(n-1)/2] + numbers[n/2]) / 2
}
