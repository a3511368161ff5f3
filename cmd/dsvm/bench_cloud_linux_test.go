package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
)

// TestCloudRates runs jobs under a tenth of the cloud's rates, which they exceed by far:
// the rates slow them down, and nobody notices anything else.
func TestCloudRates(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	const jobs = 200
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := runCloud(ctx, cloudLoad{jobs: jobs, pools: 2, divisor: 10}, []string{os.Args[0]}, t.TempDir(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Error(err)
	}
	t.Log("\n" + out.String())
	if r.Succeeded != jobs || r.DeadLettered != 0 || r.UserErrors != 0 {
		t.Errorf("%d of %d jobs succeeded, %d messages are dead, users saw %d errors", r.Succeeded, jobs, r.DeadLettered, r.UserErrors)
	}
	for _, l := range r.Limits {
		if l.Name != limitProcessor && l.Used > 1.2*l.Limit {
			t.Errorf("%s: %.0f a second were used of %.0f", l.Name, l.Used, l.Limit)
		}
	}
}

func TestCloudResult(t *testing.T) {
	t.Parallel()
	count := func(requests, refused int64) tables.RequestCount {
		return tables.RequestCount{Requests: requests, RefusedByPartition: refused}
	}
	is := cloudCounters{
		bus: servicebus.RateStats{Sends: servicebus.RequestCount{Requests: 100, Refused: 5}, Credits: 50_000, FullSeconds: 60},
		tables: tables.RateStats{
			Writes: count(880, 5), Reads: count(20, 0), Entities: 200_000, FullSeconds: 5,
			Partitions: map[string]int64{"pools/a": 190_000, "pools/b": 1_000, "ids/1": 500},
		},
		processor: 100 * time.Second,
	}
	r := newCloudResult(cloudLoad{jobs: 1000, pools: 2}, benchMachine{}, 100*time.Second, cloudCounters{}, is)
	if r.JobsPerSecond != 10 || r.MostUsed != limitPartition || r.BoundBy != limitPartition || r.RefusedPart != 0.01 {
		t.Errorf("got %.0f jobs/s, bound by %q, %.3f refused", r.JobsPerSecond, r.BoundBy, r.RefusedPart)
	}
	if p := r.PerJob; p.Credits != 50 || p.Entities != 191 || p.All != 200 || p.Requests != 0.9 || p.CPUMs != 100 {
		t.Errorf("a job costs %+v", p)
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil || !strings.Contains(out.String(), "95 %") || !strings.Contains(out.String(), "1.00 % of all requests") {
		t.Errorf("printed (%v):\n%s", err, out.String())
	}
	is.tables.Partitions["pools/a"] = 150_000
	if r := newCloudResult(cloudLoad{jobs: 1000, pools: 2}, benchMachine{}, 100*time.Second, cloudCounters{}, is); r.BoundBy != "" {
		t.Errorf("bound by %q, want no limit that is used up", r.BoundBy)
	}
}
