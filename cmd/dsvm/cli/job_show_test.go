package cli

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// On a terminal a run ends with what the job cost, and elsewhere it says nothing of it.
func TestRunSaysTheCost(t *testing.T) {
	t.Parallel()
	for width, says := range map[int]bool{0: false, 80: true} {
		b := newBench(t)
		b.program.ErrWidth = width
		b.submitted = func(id string) {
			node, n := b.start(id)
			b.app.Clock.Set(b.app.Clock.Now().Add(time.Hour))
			b.end(node, n, job.AttemptSucceeded, 0, "")
		}
		code, _, errs := b.run("run", "--pool", "cpu", "--id", "j", "--", "true")
		if code != 0 || strings.Contains(errs, "job j cost ") != says || says && !strings.HasSuffix(strings.TrimSpace(errs), " USD") {
			t.Errorf("with width %d: got code %d, %q", width, code, errs)
		}
	}
}

// Something is never shown as zero, and what is unknown neither.
func TestJobCostText(t *testing.T) {
	t.Parallel()
	usd := func(amount string) *wire.Cost { return &wire.Cost{Amount: amount, Currency: "USD"} }
	for _, c := range []struct {
		cost wire.JobCost
		want string
	}{
		{wire.JobCost{}, ""},
		{wire.JobCost{Cost: usd("1.904999")}, "1.90 USD"},
		{wire.JobCost{Cost: usd("0.01")}, "0.01 USD"},
		{wire.JobCost{Cost: usd("0.009999")}, "< 0.01 USD"},
		{wire.JobCost{Cost: usd("0.00")}, "< 0.01 USD"},
		{wire.JobCost{Cost: &wire.Cost{Amount: "unknown"}}, "unknown"},
		{wire.JobCost{Cost: usd("0.21"), PerHour: usd("0.096")}, "0.21 USD so far, 0.096 USD an hour"},
		{wire.JobCost{Cost: usd("0.21"), PerHour: usd("0.096"), AtMost: usd("0.25")},
			"0.21 USD so far, 0.096 USD an hour, at most 0.25 USD if it takes its whole timeout"},
		{wire.JobCost{Cost: &wire.Cost{Amount: "unknown"}, PerHour: usd("0.096")}, "unknown so far, 0.096 USD an hour"},
	} {
		if got := jobCostText(c.cost); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.cost, got, c.want)
		}
	}
}
