package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// command runs the command line against the instance.
func (i *instance) command(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	env := map[string]string{"DSVM_URL": i.URL, "DSVM_KEY": i.Key}
	p := &cli.Program{
		In:     strings.NewReader(""),
		Out:    &o,
		Err:    &e,
		Dir:    i.t.TempDir(),
		Now:    time.Now,
		Zone:   time.UTC,
		Getenv: func(name string) string { return env[name] },
	}
	code = p.Main(i.ctx, args)
	return code, o.String(), e.String()
}

// gone waits until a pool is there no more.
func (i *instance) gone(name string) {
	i.t.Helper()
	i.until("the end of pool "+name, func() bool {
		_, err := i.client.Pool(i.ctx, name)
		return fault.CodeOf(err) == fault.NotFound
	})
}

// A pool is deleted while jobs of every kind are in it: a job that waits for one of them
// hears of its end, and afterwards all of them are what they were, for every command;
// their messages once more run nothing, also when the pool is there again.
func TestJobsOutliveTheirPool(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	spec := `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`
	i.apply(spec)
	good := body(`{"id":"good","pool":"cpu","command":["sh","-c","echo ran >> $DSVM_SHARE/good; echo said this"]}`)
	i.send("jobs", good, body(`{"id":"bad","pool":"cpu","command":["sh","-c","exit 7"]}`),
		body(`{"id":"done","pool":"cpu","sweep":{"list":[{"CODE":"0"},{"CODE":"4"}]},"script":"exit $CODE"}`))
	i.job("good")
	i.job("bad")
	i.job("done")
	i.send("jobs", body(`{"id":"runs","pool":"cpu","resources":{"cpus":2},"command":["sh","-c","echo begun; exec sleep 600"]}`),
		body(`{"id":"tune","pool":"cpu","resources":{"cpus":2},"sweep":{"count":50},"command":["sleep","600"]}`))
	i.until("the job and a member to run", func() bool {
		j, err := i.client.Job(i.ctx, "runs")
		w, err2 := i.client.Job(i.ctx, "tune")
		return err == nil && err2 == nil && j.State == job.Running && w.Sweep != nil && w.Sweep.Running == 1
	})
	i.send("jobs", body(`{"id":"waits","pool":"cpu","resources":{"cpus":2},"command":["true"]}`),
		body(`{"id":"held","pool":"cpu","notBefore":"2999-01-01T00:00:00Z","command":["true"]}`),
		body(`{"id":"gang","pool":"cpu","nodes":2,"command":["true"]}`),
		body(`{"id":"then","pool":"cpu","after":["runs:any","held"],"command":["true"]}`))
	for _, id := range []string{"waits", "held", "gang", "then"} {
		i.until("job "+id, func() bool {
			j, err := i.client.Job(i.ctx, id)
			return err == nil && (j.State == job.Queued || j.State == job.Held)
		})
	}
	type result struct {
		code      int
		out, errs string
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	results := map[string]result{}
	start := func(args string) {
		wg.Go(func() {
			code, out, errs := i.command(strings.Fields(args)...)
			mu.Lock()
			defer mu.Unlock()
			results[args] = result{code, out, errs}
		})
	}
	for _, id := range []string{"runs", "tune", "waits", "held", "gang", "then", "tune.40"} {
		start("job wait " + id)
	}
	start("job logs -f runs")
	start("job logs -f held")
	start("run --pool cpu --id ran -- true") // waits as well
	i.until("the job of run", func() bool {
		j, err := i.client.Job(i.ctx, "ran")
		return err == nil && j.State == job.Queued
	})
	if code, _, errs := i.command("pool", "delete", "cpu", "--yes"); code != 0 ||
		!strings.Contains(errs, "and 2 running jobs end as cancelled") {
		t.Errorf("pool delete: %d, %s", code, errs)
	}
	i.gone("cpu")
	wg.Wait()
	for args, r := range results {
		// All end as the job does, also one that follows the log of a job that never started.
		if log, ok := map[string]string{"job logs -f runs": "begun\n", "job logs -f held": ""}[args]; ok && r.out != log {
			t.Errorf("%s: printed %q, want %q", args, r.out, log)
		}
		if r.code != 130 || !strings.Contains(r.errs, "its pool was deleted") {
			t.Errorf("%s: ended with %d, %q and %q; want 130", args, r.code, r.out, r.errs)
		}
	}

	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			args string
			code int
			says string
		}{
			{"job wait good", 0, "succeeded"}, {"job wait bad", 7, "failed"}, {"job wait done", 4, "failed"}, {"job wait done.0", 0, "succeeded"}, {"job wait done.1", 4, "failed"},
			{"job wait runs", 130, "cancelled"}, {"job wait tune.49", 130, "cancelled"}, {"job wait tune", 130, "cancelled"}, {"job wait gang", 130, "its pool was deleted"},
			{"job cancel good", 0, "succeeded"}, {"job cancel held", 0, "cancelled"}, {"job explain then", 0, "cancelled: its pool was deleted"},
			{"job logs good", 0, "said this"}, {"job logs -f good", 0, "said this"}, {"job logs runs", 0, "begun"}, {"job show good", 0, "succeeded"},
			{"job logs held", 1, "never started"}, {"job show tune.50", 1, "there is no job"},
		} {
			code, out, errs := i.command(strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(out+errs, c.says) {
				t.Errorf("%s, %s: got %d, %q, %q; want %d and %q", when, c.args, code, out, errs, c.code, c.says)
			}
		}
		j, err := i.client.Job(i.ctx, "bad")
		if err != nil || j.State != job.Failed || *j.ExitCode != 7 || j.Pool != "cpu" || j.StartedAt == nil || j.EndedAt == nil ||
			j.SubmittedAt == nil || j.Kept == "" {
			t.Errorf("%s, bad is %+v (%v)", when, j, err)
		}
	}
	check("the pool is gone")

	i.send("jobs", good)
	i.apply(spec)
	i.send("jobs", good)
	i.send("jobs", body(`{"id":"more","pool":"cpu","after":["good","bad:failure","tune:any","done.1:failure"],"command":["true"]}`))
	if j := i.job("more"); j.State != job.Succeeded {
		t.Errorf("what comes after them is %s: %s", j.State, j.Reason)
	}
	check("the pool is there again")
	if ran, err := os.ReadFile(filepath.Join(i.Share, "good")); err != nil || string(ran) != "ran\n" {
		t.Errorf("good ran %q times (%v), want once", ran, err)
	}
	if active, _, _, _ := i.Bus.Counts("rejected"); active != 0 {
		t.Errorf("%d messages were rejected", active)
	}
	var jobs []wire.Job
	jobs, err := i.client.Jobs(i.ctx, client.JobFilter{Pool: "cpu"}, 10)
	if err != nil || len(jobs) != 1 {
		t.Errorf("the new pool has %d jobs (%v), want the new one", len(jobs), err)
	}
}

// A timer lets go of rows, of files and of ids, in this order, and of nothing of a job
// that lives.
func TestWhatHasEndedGoesByAge(t *testing.T) {
	t.Parallel()
	i := startInstance(
		t,
		map[string]string{
			"RECORD_USAGE_SCHEDULE": "* * * * * *",
			"DSVM_KEEP_FINISHED":    "1s",
			"DSVM_KEEP_FILES":       "4s",
			"DSVM_KEEP_IDS":         "8s",
		},
	)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	i.send("jobs", body(`{"id":"lives","pool":"cpu","command":["sh","-c","echo alive; exec sleep 600"]}`),
		body(`{"id":"ends","pool":"cpu","command":["sh","-c","echo over; exit 3"]}`))
	dir := func(id string) bool {
		_, err := os.Stat(filepath.Join(i.Share, "jobs", "cpu", id))
		return err == nil
	}
	i.job("ends")
	i.until("the end of the row", func() bool {
		j, err := i.client.Job(i.ctx, "ends")
		return err == nil && j.Kept != "" && j.State == job.Failed && *j.ExitCode == 3
	})
	i.until("the end of the files", func() bool {
		_, err := i.client.Job(i.ctx, "ends")
		if fault.CodeOf(err) == fault.NotFound {
			t.Error("the id has gone before the files")
			return true
		}
		return !dir("ends")
	})
	i.until("the end of the id", func() bool {
		_, err := i.client.Job(i.ctx, "ends")
		return fault.CodeOf(err) == fault.NotFound
	})
	if j, err := i.client.Job(i.ctx, "lives"); err != nil || j.State != job.Running || j.Kept != "" || !dir("lives") {
		t.Errorf("the live job is %+v (%v), its files there %v", j, err, dir("lives"))
	}
}
