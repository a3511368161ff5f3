//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedianResult(t *testing.T) {
	t.Parallel()
	run := func(rate, p99, hq float64) (r benchResult) {
		r.Job, r.JobsPerSecond, r.AcceptedToStartedMs.P99 = "/bin/true", rate, &p99
		r.Peers = []benchPeer{{Name: "HyperQueue", JobsPerSecond: hq}}
		return r
	}
	got, err := medianResult([]benchResult{run(300, 9, 20), run(100, 11, 30), run(250, 10, 10)})
	if want := run(250, 10, 20); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the median of three runs: %+v (%v), want %+v", got, err, want)
	}
	got, err = medianResult([]benchResult{run(300, 9, 20), run(100, 11, 30)})
	if want := run(200, 10, 25); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the median of two runs: %+v (%v), want %+v", got, err, want)
	}
}

// A run that fails throws away nothing of those before it.
func TestFinishedRunsAreKept(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	runUntil := func(last int) func(int) (benchResult, error) {
		return func(run int) (r benchResult, err error) {
			if r.BareJobsPerSecond = float64(100 * run); run > last {
				err = failed
			}
			return r, err
		}
	}
	for _, test := range []struct {
		asked, good int
		bare        float64 // of the result
		runs        int     // in it
		err         error
	}{
		{1, 1, 100, 0, nil}, {3, 3, 200, 3, nil}, {3, 2, 150, 2, failed}, {3, 1, 100, 1, failed}, {3, 0, 0, 0, failed}, {1, 0, 0, 0, failed},
	} {
		r, err := repeatBench(test.asked, runUntil(test.good))
		if r.BareJobsPerSecond != test.bare || len(r.Runs) != test.runs || !errors.Is(err, test.err) || r.isMeasured() != (test.good > 0) {
			t.Errorf("%d good runs of %d: %.0f/s of %d runs (%v), want %.0f/s of %d (%v)",
				test.good, test.asked, r.BareJobsPerSecond, len(r.Runs), err, test.bare, test.runs, test.err)
		}
	}
}

// The limit grows with runs and jobs, and its error says how to give more.
func TestBenchLimit(t *testing.T) {
	t.Parallel()
	small, large := benchOptions{runs: 1, jobs: 1000}, benchOptions{runs: 3, jobs: 20_000, queued: 200_000}
	if least := 3 * (small.limit() + time.Hour); large.limit() < least {
		t.Errorf("three runs with 220,000 jobs have %s, want at least %s", large.limit(), least)
	}
	o := benchOptions{timeout: time.Nanosecond}
	ctx, cancel := context.WithTimeout(t.Context(), o.limit())
	defer cancel()
	<-ctx.Done()
	if err := o.explain(ctx, errors.New("a request failed")); err == nil || !strings.Contains(err.Error(), "`--timeout`") {
		t.Errorf("after its time: %v, want an error that names --timeout", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := o.explain(ctx, errors.New("a request failed")); !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v, want %v", err, context.Canceled)
	}
}

// Ctrl-C ends the bare loop, too.
func TestBareLoopIsStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	ran := filepath.Join(t.TempDir(), "ran")
	runBare(ctx, []string{"/usr/bin/touch", ran}, benchParallel)
	if _, err := os.Stat(ran); err == nil {
		t.Error("the bare loop of a benchmark that was stopped starts processes")
	}
}

// A disk without room is refused at once, with what to do.
func TestBenchRoom(t *testing.T) {
	t.Parallel()
	o := benchOptions{runs: 1, jobs: 1000, job: "true"}
	more := benchOptions{runs: 2, jobs: 1000, job: "print"}
	if o.room() < roomOfRun || more.room() <= 2*o.room() {
		t.Errorf("one run needs %d bytes, two with logs %d", o.room(), more.room())
	}
	if err := checkRoom(t.TempDir(), 1); err != nil {
		t.Errorf("a byte: %v", err)
	}
	for _, err := range []error{checkRoom(t.TempDir(), 1<<62), checkRoom("/nowhere", 1)} {
		if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
			t.Errorf("no room: %v, want an error that names TMPDIR", err)
		}
	}
}

// A peer that fails or is not there does not end the benchmark, and is said.
func TestPeersThatAreAbsent(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	o := benchOptions{job: "true", jobs: 1}
	names := func(absent []absentPeer) (all []string) {
		for _, p := range absent {
			all = append(all, p.Name)
		}
		return all
	}
	_, absent, err := runPeers(t.Context(), o, t.TempDir(), func(string) {})
	if got, want := names(absent), []string{"HyperQueue", "Slurm"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("on an empty path %q are absent (%v), want %q", got, err, want)
	}
	for name, script := range map[string]string{"sbatch": "echo no account; exit 1", "scontrol": "exit 0"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all, absent, err := runPeers(t.Context(), o, t.TempDir(), func(string) {})
	if err != nil || len(all) != 0 || len(absent) != 2 || !strings.Contains(absent[1].Reason, "no account") {
		t.Errorf("a scheduler that fails: measured %+v, absent %+v (%v)", all, absent, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := runPeers(ctx, o, t.TempDir(), func(string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a benchmark that is stopped: %v, want %v", err, context.Canceled)
	}
}

func TestBenchOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		change func(*benchOptions)
		wrong  string // the option that the error names; "" = none
	}{
		{func(*benchOptions) {}, ""},
		{func(o *benchOptions) { o.jobs, o.sweep = 0, 100_000 }, ""},
		{func(o *benchOptions) { o.load = "0" }, ""},
		{func(o *benchOptions) { o.jobs = 0 }, "--jobs"},
		{func(o *benchOptions) { o.runs = 0 }, "--runs"},
		{func(o *benchOptions) { o.job = "false" }, "--job"},
		{func(o *benchOptions) { o.load = "10" }, "--load"},
		{func(o *benchOptions) { o.load = "101%" }, "--load"},
		{func(o *benchOptions) { o.load = "NaN%" }, "--load"},
		{func(o *benchOptions) { o.load = "0.1%" }, "--load"},
		{func(o *benchOptions) { o.peersOnly, o.sweep = true, 1 }, "--peer"},
		{func(o *benchOptions) { o.peersOnly, o.load = true, "20%" }, "--peer"},
		{func(o *benchOptions) { o.cloudRates, o.load = true, "20%" }, "--cloud-rates"},
		{func(o *benchOptions) { o.timeout = -1 }, "--timeout"},
		{func(o *benchOptions) { o.queued = -1 }, "--queued"},
		{func(o *benchOptions) { o.queued, o.sweep = 1, 1 }, "--queued"},
		{func(o *benchOptions) { o.pools = 2 }, "--pools"},
		{func(o *benchOptions) { o.cloudRates, o.pools = true, 2 }, ""},
		{func(o *benchOptions) { o.cloudRates, o.pools = true, 0 }, "--pools"},
		{func(o *benchOptions) { o.cloudRates, o.jobs = true, 0 }, "--jobs"},
		{func(o *benchOptions) { o.cloudRates, o.runs = true, 3 }, "--cloud-rates"},
	} {
		o := benchOptions{jobs: 1000, runs: 1, job: "true", load: "10%", pools: 1}
		test.change(&o)
		err := o.check(func(option string) bool {
			return option == "load" && o.load != "10%" || option == "timeout" && o.timeout != 0
		})
		switch {
		case test.wrong == "" && err != nil:
			t.Errorf("%+v: %v, want no error", o, err)
		case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
			t.Errorf("%+v: %v, want an error about %s", o, err, test.wrong)
		}
	}
}

// What was not measured is not printed.
func TestBenchPrintsWhatItMeasured(t *testing.T) {
	t.Parallel()
	r := benchResult{
		BareJobsPerSecond: 2000,
		Peers:             []benchPeer{{Name: "HyperQueue", JobsPerSecond: 900}},
		Absent:            []absentPeer{{"Slurm", noSlurm}},
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "2000/s") || !strings.Contains(got, "HyperQueue") ||
		!strings.Contains(got, noSlurm) || strings.Contains(got, "each job") || strings.Contains(got, "sweep") || strings.Contains(got, "accepted") {
		t.Errorf("the peers alone:\n%s", got)
	}
	r.JobsPerSecond, r.Jobs, r.Job, r.Sweep = 500, 1000, "/bin/true", &benchSweep{Members: 70}
	out.Reset()
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "1000 jobs, /bin/true") || !strings.Contains(got, "sweep of 70 members") || !strings.Contains(got, "each job") {
		t.Errorf("a load and a sweep:\n%s", got)
	}
}
