package scheduler_test

import (
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// The simulation runs the real driver with the real step in a world of its own: rows
// that survive and are written under the head's version, several processes with copies
// of them that grow old, messages that come twice, late and out of order, a scale set
// that refuses, gives in part, fails and loses instances, agents that crash, hang and
// come back, services that are away or do not answer, processes that are slow or killed
// between any two calls, clocks that disagree. After every commit the checker
// (sim_check_test.go) looks for what must never be; sim_owed_test.go holds the driver to
// what it promises.
//
// A world runs in a bubble of testing/synctest and gives the same history for the same
// seed: see sim_calls_test.go. It is an external test of this package, and not one of
// shared/drive, since its checks look into the state as only tests of this package can
// (Claims, Dump); the driver is used by what it exports alone.

var simSteps = flag.Int64("sim.steps", defaultSteps, "steps of the simulation")

// world is one pool with everything around it. Only one goroutine changes it, and only
// while all others wait; the exception is under mu.
type world struct {
	rng    *rand.Rand
	now    time.Time
	rules  scheduler.Timing
	faults bool

	rows    map[string][]byte // what is committed
	seq     int64             // of the head's row
	current pool.Version
	edits   [][]string // keys that each version has changed, by seq - 1
	ring    int64      // how many of those can be read
	writer  *process   // of the last version

	processes      []*process
	invocations    []*invocation // under way
	nextInvocation int
	calls          []*call                 // that wait for their turn, or for their answer
	registered     map[string]bool         // jobs whose ids are there, by order
	slowReader     map[string]bool         // jobs that are slowly taken in by the process that registers them, by order
	unsent         map[assignment]*process // committed by it, and not sent by anybody yet

	mu    sync.Mutex
	fresh []*call // made since the world was at rest

	instances map[string]*vm // by VMID
	nextID    int
	nextOp    int
	sets      map[string]*scaleSet  // by pool.Set.Name
	prices    []pool.Tariff         // see sim_prices_test.go
	ops       map[string]*operation // accepted ones that somebody may ask about, by token
	clean     bool                  // nothing ever goes wrong here
	events    []mail                // on their way to the pool
	late      []mail                // what happens later
	work      map[string][]workMail
	awayUntil map[string]time.Time
	upgradeAt time.Time // when all agents start again

	deployment int          // the newest one; see sim_rolling_test.go
	deployAt   []time.Time  // when the next ones come
	remade     map[int]bool // deployments that cannot change a set: it has to be made again
	modelCalls map[string]int

	people    []*person        // see sim_people_test.go
	books     *books           // see sim_budgets_test.go; nil: there are no budgets
	nextOrder int              // of their sessions
	others    otherJobs        // see sim_other_pool_test.go
	jobs      map[string]*wish // by order, of all that was ever submitted
	succeeded map[string]*vm   // by order and rank, where it has succeeded
	steps     int64
	answers   int64       // calls that were answered
	trace     hash.Hash64 // of all of them, and of all rows that were written
	checker   *checker
	mutate    func(*world, *scheduler.State, *scheduler.Result)
	network   networkSeen
	dropped   bool // the pool's rows may go; see sim_delete_test.go
	noHolds   bool // of a mutation: what nodes hold does not reach the pool

	noOutdated bool // of a mutation: lists do not say which instances are outdated
}

type mail struct {
	event pool.Event
	at    time.Time
	do    func() // instead of an event
}

type workMail struct {
	items []protocol.WorkItem
	at    time.Time
}

// scaleSet is one of the pool's in Azure.
type scaleSet struct {
	capacity int
	unbacked bool         // its last write failed: it counts instances that did not come
	model    int          // that it was written with last; 0 = it is not there
	token    *operation   // the last one that was accepted
	darkTill time.Time    // the machines that are made until then boot, and never report
	listing  *pool.Listed // a list that lags
	listedAt time.Time
}

// set finds a scale set; one that nobody has asked for is empty.
func (w *world) set(name string) *scaleSet {
	if w.sets[name] == nil {
		w.sets[name] = &scaleSet{}
	}
	return w.sets[name]
}

type operation struct {
	doneAt    time.Time
	fails     bool
	preempted bool  // a later one took its place
	makes     []*vm // it goes on as long as one of them sticks
}

// wish is what was submitted, and how the world lets it go.
type wish struct {
	spec     job.Spec
	failures int    // attempts that fail first
	short    bool   // its runs take no time, most of them
	done     string // key of its row when it has ended
}

func newWorld(seed int64, faults bool, processes int) *world {
	timing := scheduler.DefaultTiming
	timing.PollEvery, timing.BootDeadline, timing.DeleteAgain, timing.RecordDelay = 2*time.Second, 4*time.Minute, 20*time.Second, 2*time.Second
	timing.IntervalLength, timing.RememberGone, timing.AssignedFor = 2*time.Minute, 10*time.Minute, 2*time.Minute
	timing.NetworkAgain, timing.NetworkSettled, timing.NetworkEvery = 30*time.Second, 90*time.Second, 2*time.Minute
	w := &world{rng: rand.New(rand.NewSource(seed)), rules: timing, faults: faults, clean: !faults, ring: pool.ChangeLogLength,
		rows: map[string][]byte{}, registered: map[string]bool{}, slowReader: map[string]bool{}, unsent: map[assignment]*process{}, instances: map[string]*vm{}, sets: map[string]*scaleSet{},
		ops: map[string]*operation{}, work: map[string][]workMail{}, awayUntil: map[string]time.Time{},
		jobs: map[string]*wish{}, succeeded: map[string]*vm{}, trace: fnv.New64a(), others: newOtherJobs(seed)}
	time.Sleep(monday.Sub(time.Now())) // of the bubble: it takes no time
	w.now = w.clock()
	w.checker = newChecker(w)
	w.planDeployments(seed)
	w.planPrices(seed)
	w.upgradeAt = w.now.Add(time.Duration(20+w.rng.Intn(300)) * time.Second)
	if seed%2 == 1 {
		w.ring = 4 // processes often fall behind further than it reaches
	}
	for i := range processes {
		var skew time.Duration
		if faults && seed%3 == 0 {
			skew = time.Duration(i) * time.Second
			w.checker.slack = time.Duration(processes) * time.Second
		}
		w.processes = append(w.processes, w.newProcess(skew))
	}
	return w
}

// clock is the time in the world.
func (w *world) clock() time.Time { return time.Now().UTC().Round(0) }

// chance is true once in n, when faults are on.
func (w *world) chance(n int) bool { return w.faults && w.rng.Intn(n) == 0 }

// away reports whether a service cannot be reached; sometimes it begins to be so.
func (w *world) away(service string) bool {
	if w.chance(1500) {
		w.awayUntil[service] = w.now.Add(time.Duration(1+w.rng.Intn(40)) * time.Second)
	}
	return w.faults && w.now.Before(w.awayUntil[service])
}

// deliver sends an event to the pool, sometimes late and sometimes twice.
func (w *world) deliver(e pool.Event) {
	at := w.now
	if w.chance(10) {
		at = at.Add(time.Duration(w.rng.Intn(20)) * time.Second)
	}
	w.events = append(w.events, mail{event: e, at: at})
	if w.chance(10) {
		w.events = append(w.events, mail{event: e, at: at.Add(time.Duration(w.rng.Intn(90)) * time.Second)})
	}
}

// back brings events again, as Service Bus does when they were not completed.
func (w *world) back(events []pool.Event) {
	for _, e := range events {
		w.events = append(w.events, mail{event: e, at: w.now.Add(time.Duration(1+w.rng.Intn(5)) * time.Second)})
	}
}

// orderOf is the order of the job or member with an id.
func orderOf(id string) string {
	if sweep, index, ok := job.MemberOf(id); ok {
		return job.MemberOrder(strings.TrimPrefix(sweep, "job-"), index)
	}
	return strings.TrimPrefix(id, "job-")
}

// second lets one second pass everywhere.
func (w *world) second() {
	time.Sleep(time.Second)
	w.now = w.clock()
	for _, v := range w.sorted() {
		w.live(v)
	}
	w.overtake()
	w.others.pass(w)
	w.deploy()
	var late []mail
	for _, m := range w.late {
		if m.at.After(w.now) {
			late = append(late, m)
		} else {
			m.do()
		}
	}
	w.late = late
	var due []pool.Event
	kept := w.events[:0]
	for _, m := range w.events {
		if m.at.After(w.now) {
			kept = append(kept, m)
		} else {
			due = append(due, m.event)
		}
	}
	w.events = kept
	if w.now.Second() == 30 {
		w.operate()
	}
	if w.now.Second() == 0 {
		due = append(due, pool.Tick{At: w.now})
		w.record() // the timer that makes up for lost wake-ups
		if w.rows[pool.HeadKey] != nil {
			w.checker.processes(w.load())
		}
	}
	if w.faults {
		w.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	}
	var batches [][]pool.Event
	for len(due) > 0 {
		n := len(due)
		if w.faults {
			n = 1 + w.rng.Intn(n) // in several batches, by several processes
		}
		batches = append(batches, due[:n])
		due = due[n:]
	}
	if w.chance(10) && w.seq > 0 {
		w.look(w.processes[w.rng.Intn(len(w.processes))])
	}
	w.proceed(batches)
	w.checker.ways()
}

// operate is somebody who looks at the pool now and then: held jobs are released,
// and sometimes a node is released, drained or deleted.
func (w *world) operate() {
	if w.faults && w.rng.Intn(2) == 0 {
		return
	}
	s := w.load()
	for _, j := range slices.SortedFunc(s.Jobs.All(), func(a, b *scheduler.Job) int { return strings.Compare(a.Order, b.Order) }) {
		if j.NotBefore.Year() == 9999 {
			w.deliver(pool.Release{Order: j.Order})
		}
	}
	for _, vmid := range slices.Sorted(maps.Keys(s.Nodes)) {
		if w.chance(40) {
			w.deliver(pool.NodeRequest{VMID: vmid, Verb: []pool.Verb{pool.VerbRelease, pool.VerbDrain, pool.VerbDelete}[w.rng.Intn(3)]})
		}
	}
}

// simSpec is the pool of the simulation: nodes of 64 cpus and 4 GPUs.
func simSpec(seed int64) pool.Spec {
	three, eight, four := 3, 100, 4
	s := pool.Spec{Name: "p", Kind: "batch", OS: "linux", Sizes: []string{"Standard_NC64as_T4_v3"}, Capacity: "regular",
		Nodes: pool.Range{Max: 5}, IdleTimeout: job.Duration(30 * time.Second), Pack: seed%5 != 4, Weights: map[string]int{"a": 2, "default": 1},
		Limits: pool.Limits{Team: map[string]pool.Limit{"a": {Jobs: &three}, "b": {CPUs: &eight, GPUs: &four}}}}
	if seed%4 == 3 {
		s.Schedule = &pool.Schedule{DownAt: "09:03", UpAt: "09:05", TimeZone: "UTC", OnRunning: []string{"wait", "requeue", "kill"}[seed/4%3]}
	}
	if seed%6 == 5 {
		s.Nodes.Min = 1
	}
	switch seed % 3 {
	case 1:
		s.Sizes = append(s.Sizes, "Standard_NC16as_T4_v3") // 16 cpus and 1 GPU
	case 2:
		s.Sizes, s.Capacity = []string{"Standard_NC64as_T4_v3", "Standard_D64s_v5"}, "spot-then-regular"
	}
	return s
}

// submit brings n jobs of all kinds.
func (w *world) submit(n int) {
	for range n {
		number := len(w.jobs)
		order := fmt.Sprintf("01%024d", number)
		r, short := w.rng, false
		s := job.Spec{ID: "job-" + order, Pool: "p", Name: order, Team: string("abc"[r.Intn(3)]), User: string("uv"[r.Intn(2)]), Priority: []job.Priority{job.High, job.Normal, job.Low}[r.Intn(3)],
			Resources: job.Resources{CPUs: 1 + r.Intn(64), GPUs: max(0, r.Intn(8)-3)}, Retry: job.Retry{Max: 50, Backoff: job.Duration(5 * time.Second)}}
		if r.Intn(2) == 0 {
			s.Timeout = job.Duration(time.Duration(60+r.Intn(100)) * time.Second)
		}
		if r.Intn(4) == 0 {
			s.Resources.Memory = job.Bytes(r.Intn(400)) * job.Gi
		}
		switch r.Intn(8) {
		case 0:
			s.Nodes = 2 + r.Intn(3)
			s.Team, s.Resources.CPUs, s.Resources.GPUs = "c", 1+r.Intn(32), r.Intn(2)
		case 1:
			s.Sweep = &job.Sweep{Count: 1 + r.Intn(16), Parallel: r.Intn(3), MaxFails: max(0, r.Intn(6)-2)}
			s.Resources.CPUs = 1 + r.Intn(16)
		case 2:
			s.Sweep = &job.Sweep{Count: 20 + r.Intn(60), Parallel: 64 * r.Intn(2)}
			s.Resources = job.Resources{CPUs: 4 + r.Intn(16)}
			short = true
		}
		switch r.Intn(8) {
		case 0, 1:
			s.Retry.Max = 0
		case 2:
			s.Retry.On = []string{"agentRestarted", "exitCode:3", "evicted"}
		}
		for range r.Intn(3) {
			if number > 0 {
				s.After = append(s.After, fmt.Sprintf("job-01%024d%s", r.Intn(number), []string{"", "", ":any", ":failure"}[r.Intn(4)]))
			}
		}
		if r.Intn(12) == 0 {
			s.Secrets = map[string]string{"TOKEN": "keyvault:vault/token"}
		}
		if r.Intn(10) == 0 {
			s.NotBefore = w.now.Add(time.Duration(r.Intn(60)) * time.Second)
		}
		w.others.come(w, &s, order)
		w.jobs[order] = &wish{spec: s, failures: r.Intn(3), short: short, done: pool.DoneKey(order)}
		if short {
			w.jobs[order].failures = 0
		}
		message := pool.Submit{Order: order, ID: s.ID, At: w.now, Spec: s}
		w.deliver(message)
		if w.chance(12) { // its first reader is slow; another one takes it in, and it ends meanwhile
			w.slowReader[order] = true
			w.events = append(w.events, mail{event: message, at: w.now.Add(time.Second)},
				mail{event: pool.Cancel{Order: order, Reason: "at once"}, at: w.now.Add(3 * time.Second)})
		}
		if r.Intn(12) == 0 {
			w.events = append(w.events, mail{event: pool.Cancel{Order: order, Reason: "no more"}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
		}
		if s.Sweep != nil && r.Intn(4) == 0 {
			w.events = append(w.events, mail{event: pool.Cancel{Order: job.MemberOrder(order, r.Intn(s.Sweep.Count)), Reason: "not this one"}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
		}
	}
}

// open counts the jobs that have not ended.
func (w *world) open() int {
	n := 0
	for _, wanted := range w.jobs {
		if _, done := w.rows[wanted.done]; !done {
			n++
		}
	}
	return n
}

// simulate plays a world in a bubble of its own and returns it when it has ended.
func simulate(t *testing.T, seed int64, faults bool, prepare func(*world), play func(*world, int64) string) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, faults, 1+int(seed%4))
		if prepare != nil {
			prepare(w)
		}
		play(w, seed)
		w.stop()
	})
	return w
}

// play lets a world live: waves of jobs among faults, then the faults end, and
// everything has to come to rest. It returns what is wrong, or "".
func (w *world) play(seed int64) string {
	faults := w.faults
	w.faults = false
	w.proceed([][]pool.Event{{pool.Apply{Spec: simSpec(seed)}}})
	w.faults = faults
	const waves, wave = 3, 25
	for i := range waves {
		w.submit(wave)
		for range 100 {
			w.second()
		}
		if i == 1 && w.rng.Intn(3) == 0 {
			w.deliver(pool.CancelAll{User: "u", Reason: "gone home"})
		}
	}
	w.faults = false
	for range 3 * 3600 {
		if !w.checker.ok() {
			return w.checker.problem
		}
		if w.second(); w.open() == 0 && len(w.instances) == simSpec(seed).Nodes.Min && w.isRolled() {
			for range 130 { // what is still under way comes in, and the instances' end is seen
				w.second()
			}
			return w.checker.end()
		}
	}
	w.checker.fail("rest", "after three hours %d jobs are open, %d instances are there, head %+v", w.open(), len(w.instances), w.load().Head)
	return w.checker.problem
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	if simSeeds.given {
		playSeeds(t, (*world).play)
		return
	}
	var steps, seed atomic.Int64
	var violated atomic.Bool // one is enough: the worlds beside it need not go on
	var mu sync.Mutex
	seen := map[string]int{}
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for steps.Load() < *simSteps && !violated.Load() {
				s := seed.Add(1) - 1
				w := simulate(t, s, s%8 != 7, nil, (*world).play)
				if problem := w.checker.problem; problem != "" {
					violated.Store(true)
					t.Fatalf("seed %d, after %d steps: %s", s, w.steps, problem)
				}
				steps.Add(w.steps)
				mu.Lock()
				for what, n := range w.checker.seen {
					seen[what] += n
				}
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d steps in %d worlds, nothing violated; seen %v", steps.Load(), seed.Load(), seen)
		for _, what := range []string{"bundle", "use of a node", "journal lost", "start stuck", "ended meanwhile", "conflict", "node lost", "node failed", "breaker opened", "operation preempted", "node draining", "node outdated", "model written", "stage", "stage failed", "feature", "set made again", "rolled job", "node gone", "job held", "job timedOut", "job cancelled", "job succeeded",
			"job attempt nodeLost", "job attempt evicted", "job attempt agentRestarted", "job attempt startFailed", "job failed", "node quarantined", "sweep held", "sweep failed",
			"hint", "notified", "gang succeeded", "gang attempt evicted", "gang attempt failed", "sweep succeeded", "sweep cancelled", "waits for its turn", "recalled"} {
			isRare := what == "ended meanwhile"
			if seen[what] == 0 && !t.Failed() && !underDetector && (!isRare || steps.Load() > 2*defaultSteps) { // too few steps to see all
				t.Errorf("never seen: %s", what)
			}
		}
	})
}

// ledgerKey tells a node's entries from those of attempts.
func ledgerKey(e usage.Entry) string { return e.Kind + " " + e.Key }
