package scheduler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// of makes a submission of a team.
func of(team, order string, change func(*job.Spec)) pool.Event {
	return submission(order, func(s *job.Spec) {
		s.Team = team
		if change != nil {
			change(s)
		}
	})
}

// finish ends the attempt of a job that is on a node.
func (b *bench) finish(order string) scheduler.Result {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	if j == nil || j.VMID == "" {
		b.t.Fatalf("job %s is not on a node", order)
	}
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{
		{Finished: &protocol.Finished{N: j.N, State: "succeeded", StartedAt: j.Attempts[0].AssignedAt, EndedAt: b.now}}}}})
}

// on lists the jobs that have a place, by name.
func (b *bench) on() string {
	var names []string
	for j := range b.s.Jobs.All() {
		if j.VMID != "" {
			names = append(names, j.ID)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestShareOfTeams(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		weights map[string]int
		want    string // of 8 places, when a asked first
	}{
		{"alike", nil, "a0 a1 a2 a3 b0 b1 b2 b3"},
		{"three to one", map[string]int{"a": 3}, "a0 a1 a2 a3 a4 a5 b0 b1"},
		{"one to three by default", map[string]int{"default": 3, "a": 1}, "a0 a1 b0 b1 b2 b3 b4 b5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Weights = tt.weights })
			var events []pool.Event
			for _, team := range []string{"a", "b"} {
				for i := range 9 {
					events = append(events, of(team, fmt.Sprint(team, i), nil))
				}
			}
			b.step(events...)
			b.node("n1")
			b.node("n2")
			if got := b.on(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What a team used before counts against it, and counts less as time goes by.
func TestShareRemembersAndForgets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pause time.Duration
		want  string
	}{
		"soon after":     {time.Minute, "b0 b1 b2 b3"},
		"a week after":   {7 * 24 * time.Hour, "a0 a1 b0 b1"},
		"half forgotten": {48 * time.Hour, "a0 b0 b1 b2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.node("n1")
			b.step(of("a", "old", func(s *job.Spec) { s.Resources.CPUs = 4 }))
			b.now = b.now.Add(2 * time.Hour)
			b.finish("old")
			b.now = b.now.Add(tt.pause)
			var events []pool.Event
			for i := range 4 {
				events = append(events, of("a", fmt.Sprint("a", i), nil), of("b", fmt.Sprint("b", i), nil))
			}
			b.step(events...)
			if got := b.on(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLimitsAreExact(t *testing.T) {
	t.Parallel()
	two := 2
	b := newBench(t, func(s *pool.Spec) {
		s.Limits = pool.Limits{Team: map[string]pool.Limit{"a": {Jobs: &two}, "b": {CPUs: &two}}}
	})
	var events []pool.Event
	for i := range 4 {
		events = append(
			events,
			of("a", fmt.Sprint("a", i), nil),
			of("b", fmt.Sprint("b", i), func(s *job.Spec) { s.Resources.CPUs = 1 + i%2 }),
		)
	}
	if got := grown(b.step(events...)); got != 1 {
		t.Errorf("asked for %d nodes, want 1: four cpus may run at once", got)
	}
	b.node("n1")
	b.node("n2")
	// b0 takes one cpu; b1 wants two and waits; b2 takes the other one.
	if got, want := b.on(), "a0 a1 b0 b2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b.finish("a0")
	if got, want := b.on(), "a1 a2 b0 b2"; got != want {
		t.Errorf("after one of a's has ended: got %s, want %s", got, want)
	}
	r := b.step(of("a", "wide", func(s *job.Spec) { s.Resources.CPUs = 3 }), of("b", "never", func(s *job.Spec) { s.Resources.CPUs = 3 }))
	if len(r.Refused) != 1 || r.Refused[0].ID != "never" {
		t.Errorf("refused %+v; want the job that the limits never let run", r.Refused)
	}
}

func gpuPool(s *pool.Spec) { s.Sizes = []string{"Standard_NC64as_T4_v3"} } // 64 cpus, 440 GiB, 4 GPUs

func TestEachGPUHasOneOwner(t *testing.T) {
	t.Parallel()
	b := newBench(t, gpuPool)
	var events []pool.Event
	for i, gpus := range []int{1, 2, 1, 1, 0} {
		events = append(events, of("a", fmt.Sprint("j", i), func(s *job.Spec) { s.Resources.GPUs = gpus }))
	}
	b.step(events...)
	b.node("n1")
	check := func(want map[string][]int) {
		t.Helper()
		got := map[string][]int{}
		for j := range b.s.Jobs.All() {
			if j.VMID != "" {
				got[j.ID] = j.Attempts[len(j.Attempts)-1].GPUs
			}
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check(map[string][]int{"j0": {0}, "j1": {1, 2}, "j2": {3}, "j4": nil})
	b.finish("j1")
	check(map[string][]int{"j0": {0}, "j2": {3}, "j3": {1}, "j4": nil})
}

func TestMemoryIsPacked(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil) // 16 GiB
	var events []pool.Event
	for i, memory := range []job.Bytes{10, 10, 6, 1} {
		events = append(events, of("a", fmt.Sprint("j", i), func(s *job.Spec) { s.Resources.Memory = memory * job.Gi }))
	}
	if got := grown(b.step(events...)); got != 2 {
		t.Errorf("asked for %d nodes, want 2", got)
	}
	b.node("n1")
	b.node("n2")
	if got, want := b.on(), "j0 j1 j2 j3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if a, c := b.s.Jobs.Get("j0").VMID, b.s.Jobs.Get("j2").VMID; a != c {
		t.Errorf("10 and 6 GiB are on %s and %s; they fit on one", a, c)
	}
}

// A wide job that waits is not overtaken by jobs that would make it wait longer,
// and others go on.
func TestReservation(t *testing.T) {
	t.Parallel()
	timeout := func(cpus int, d time.Duration) func(*job.Spec) {
		return func(s *job.Spec) { s.Resources.CPUs, s.Timeout = cpus, job.Duration(d) }
	}
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("n1")
	b.node("n2")
	// n1: ends in an hour; n2: nobody knows when.
	b.step(of("a", "hour", timeout(2, time.Hour)), of("a", "ever", timeout(3, 0)))
	if got, want := b.on(), "ever hour"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	b.step(of("b", "wide", timeout(4, 0)))
	b.step(of("a", "long", timeout(2, 0)), of("a", "short", timeout(1, 30*time.Minute)), of("a", "beside", timeout(1, 0)))
	// short ends before n1 is free, beside goes to n2, long would delay wide.
	if got, want := b.on(), "beside ever hour short"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b.finish("short")
	b.finish("hour")
	if got, want := b.on(), "beside ever wide"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Small jobs without end may keep coming: a wide one runs all the same.
func TestNoStarvation(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.node("n1")
	next := 0
	small := func() pool.Event {
		next++
		return of(fmt.Sprint("team", next%3), fmt.Sprintf("small%03d", next), nil)
	}
	b.step(small(), small(), small(), small())
	b.step(of("w", "wide", func(s *job.Spec) { s.Resources.CPUs = 4 }))
	for range 20 {
		b.now = b.now.Add(time.Second)
		b.step(small(), small())
		running := strings.Fields(b.on())
		if slices.Contains(running, "wide") {
			return
		}
		b.finish(running[0])
	}
	t.Error("the wide job never came to run")
}

// large is a pool with this many jobs that wait, of 20 teams, and nodes of 16
// cpus, all idle.
func large(jobs, nodes int) *scheduler.State {
	s := spec()
	s.Sizes, s.Nodes.Max = []string{"Standard_D16s_v5"}, nodes
	limit := 10_000
	s.Limits.Default.Jobs, s.Weights = &limit, map[string]int{"team3": 5, "default": 2}
	var ns []*pool.Node
	for i := range nodes {
		ns = append(
			ns,
			&pool.Node{
				VMID:       fmt.Sprintf("vm-%05d", i),
				Set:        "d16s-v5",
				Name:       fmt.Sprint("n", i),
				InstanceID: fmt.Sprint(i),
				CPUs:       16,
				Memory:     64 * job.Gi,
				State:      pool.NodeReady,
				Since:      monday,
				CreatedAt:  monday,
				HeardAt:    monday,
				RunningAt:  monday,
				From:       monday,
				Mark:       monday,
			},
		)
	}
	var js []*pool.Job
	for i := range jobs {
		js = append(js, &pool.Job{Order: fmt.Sprintf("%026d", i), ID: fmt.Sprint("job-", i), State: job.Queued, SubmittedAt: monday,
			Spec: job.Spec{
				ID:       fmt.Sprint("job-", i),
				Pool:     "p",
				Command:  []string{"python", "train.py"},
				Team:     fmt.Sprint("team", i%20),
				Priority: []job.Priority{job.Normal, job.Low, job.High}[i%3],
				Resources: job.Resources{
					CPUs:   1 + i%3,
					Memory: job.Bytes(1+i%4) * job.Gi,
				},
				Timeout: job.Duration(time.Duration(i%5) * time.Hour),
			}})
	}
	return scheduler.NewState(
		pool.Head{Spec: s, Sets: []pool.Set{{Name: "d16s-v5", Size: s.Sizes[0], Used: true, Capacity: nodes, Listed: monday}}},
		ns, js, monday,
	)
}

// BenchmarkPlace is the cost of one placement, amortised over steps as large as
// a transaction.
func BenchmarkPlace(b *testing.B) {
	for _, queued := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("queued=%d", queued), func(b *testing.B) {
			placed := 0
			for placed < b.N {
				b.StopTimer()
				s := large(queued, 1_000)
				b.StartTimer()
				for before := placed; placed < b.N; before = placed {
					r := scheduler.Step(s, nil, monday, scheduler.DefaultTiming)
					for _, items := range r.Effects.Work {
						placed += len(items)
					}
					if placed == before {
						break
					}
				}
			}
		})
	}
}

// BenchmarkNothingToPlace is a step on a full pool.
func BenchmarkNothingToPlace(b *testing.B) {
	s := large(100_000, 1_000)
	for more := true; more; {
		more = scheduler.Step(s, nil, monday, scheduler.DefaultTiming).More
	}
	b.ReportMetric(float64(s.Head.Queued), "waiting")
	for b.Loop() {
		if r := scheduler.Step(s, []pool.Event{pool.Tick{}}, monday, scheduler.DefaultTiming); len(r.Changes) > 0 {
			b.Fatal("something was placed")
		}
	}
}
