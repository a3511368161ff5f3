package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// The jobs of the example: first has failed, second runs, third waits.
func TestVerbsOfJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, test := range []struct {
		args string
		code int
		out  string // all of standard output
		errs string // some of standard error
	}{
		{"job hold third", 0, "held\n", ""},
		{"job hold third", 0, "held\n", ""},
		{"job hold second", 1, "", `job "second" is running; only a job that waits can be held; cancel it to end it`},
		{"job hold first third none", 1, "third: held\n", `job "first" has ended as failed`},
		{"job explain third", 0, "held: somebody holds it; `dsvm job release third` lets it go on\nwaits for: somebody who releases or cancels it\n", ""},
		{"job update third second --priority high", 0, "third: held\nsecond: running\n", ""},
		{"job update first --priority low", 1, "", "`dsvm job rerun first` runs it again"},
		{"job update third", 2, "", "say what to change"},
		{"job update third --priority top", 2, "", "say what to change"},
		{"job release third second", 0, "third: queued\nsecond: running\n", ""},
		{"job rerun first", 0, "first-r2\n", ""},
		{"job rerun first-r2 third", 0, "first-r2: first-r3\nthird: third-r2\n", ""},
		{"job rerun bad", 1, "", "was rejected and has no document that can run"},
		{"job rerun none", 1, "", "there is no job"},
		{"job cancel first-r2 first-r3 third-r2", 0, "first-r2: cancelled\nfirst-r3: cancelled\nthird-r2: cancelled\n", ""},
		{"job wait first third-r2 none", 1, "first: failed\nthird-r2: cancelled\n", "there is no job"},
		{"job wait first first-r3", 1, "first: failed\nfirst-r3: cancelled\n", "2 of 2 jobs did not succeed"},
		{"job wait second third --timeout 1ms", 1, "", "2 of 2 jobs have not ended within 1ms"},
		{"job hold", 2, "", "needs the ID of a job"},
		{"job cancel third --user ann", 2, "", "name the IDs of jobs"},
	} {
		if code, out, errs := b.run(strings.Fields(test.args)...); code != test.code || out != test.out || !strings.Contains(errs, test.errs) {
			t.Errorf("%s: got %d, %q, %q; want %d, %q, %q", test.args, code, out, errs, test.code, test.out, test.errs)
		}
	}
	if j, err := b.app.Jobs.Job(t.Context(), "third"); err != nil || j.Spec.Priority != job.High {
		t.Errorf("the third job is %+v (%v)", j, err)
	}
	if _, out, _ := b.run("job", "show", "first-r3"); !strings.Contains(out, "first-r2\n") {
		t.Errorf("a rerun shows %s", out)
	}
}

// With several ids -o json is a list, with one it is the job.
func TestVerbsOfJobsAsJSON(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var one wire.Job
	if _, out, _ := b.run("job", "hold", "third", "-o", "json"); json.Unmarshal([]byte(out), &one) != nil || one.ID != "third" || one.State != job.Held {
		t.Errorf("got %s", out)
	}
	for _, args := range []string{"job release first third none", "job wait first none"} {
		var all []wire.Job
		code, out, _ := b.run(append(strings.Fields(args), "-o", "json")...)
		if err := json.Unmarshal([]byte(out), &all); err != nil || code != 1 || len(all) == 0 || all[0].ID != "first" {
			t.Errorf("%s: got %d, %s (%v)", args, code, out, err)
		}
	}
}

// Members of a sweep are held with it, and run again as jobs of their own.
func TestVerbsOfSweeps(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.app.Submit(t.Context(), `{"id":"tune","pool":"cpu","command":["true"],"resources":{"cpus":2},"sweep":{"list":[{"LR":"1"},{"LR":"2"}]}}`); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"job hold tune.1":                  `member "tune.1" has not begun and cannot be changed by itself; change its sweep "tune"`,
		"job update tune.1 --priority low": `change its sweep "tune"`,
		"job rerun tune.1":                 `change its sweep "tune"`,
	} {
		if code, _, errs := b.run(strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: got %d, %s", args, code, errs)
		}
	}
	if code, out, errs := b.run("job", "hold", "tune"); code != 0 || out != "held\n" {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	b.run("job", "cancel", "third")
	b.run("job", "release", "tune")
	vmid, n := b.start("tune.0")
	b.end(vmid, n, job.AttemptFailed, 1, "")
	if code, out, errs := b.run("job", "rerun", "tune.0", "tune"); code != 0 || out != "tune.0: tune.0-r2\ntune: tune-r2\n" {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	j, err := b.app.Jobs.Job(t.Context(), "tune.0-r2")
	if err != nil || j.Spec.Index != nil || j.Spec.Env["DSVM_INDEX"] != "0" || j.Spec.Env["LR"] != "1" || j.Spec.RerunOf != "tune.0" {
		t.Errorf("the member runs again as %+v (%v)", j, err)
	}
}
