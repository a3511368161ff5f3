package scheduler

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// waitingRow is a row as a load returns it: no string of it is shared with another row.
func waitingRow(n int, command ...string) *pool.Job {
	id := fmt.Sprintf("job-%08d-of-a-long-night", n)
	return &pool.Job{
		Order: fmt.Sprintf("01K%023d", n), ID: id, State: job.Queued, SubmittedAt: time.UnixMilli(1_790_000_000_000 + int64(n)).UTC(), Bundled: true,
		Spec: job.Spec{
			ID: id, Pool: fmt.Sprint("c", "pu"), Team: fmt.Sprint("team", n%20), User: fmt.Sprint("ann", n%3), Command: command,
			Resources: job.Resources{CPUs: 1}, Priority: job.Normal, Retry: job.Retry{Max: 2, Backoff: job.Duration(time.Minute)},
		},
	}
}

// lines are long lines: what their jobs differ in besides their ids, and the most bytes that
// one may take.
var lines = []struct {
	name string
	most float64
	row  func(n int) *pool.Job
}{
	{"alike", 300, func(n int) *pool.Job { return waitingRow(n, fmt.Sprint("/bin/", "true")) }},
	{"different commands", 350, func(n int) *pool.Job {
		return waitingRow(n, "python", "train.py", "--seed", fmt.Sprint(n), "--data", "/data/2026")
	}},
	{"different variables", 400, func(n int) *pool.Job {
		j := waitingRow(n, "python", "train.py")
		j.Spec.Env = map[string]string{"SEED": fmt.Sprint(n), "LR": fmt.Sprint("0.", n), "DATA": fmt.Sprint("/data/", 2026), "MODE": fmt.Sprint("tr", "ain")}
		return j
	}},
}

func bytesInUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// bytesOfJob is what a job takes that waits among so many.
func bytesOfJob(jobs int, row func(n int) *pool.Job) float64 {
	before := bytesInUse()
	rows := make([]*pool.Job, jobs)
	for n := range rows {
		rows[n] = row(n)
	}
	s := NewState(pool.Head{Spec: pool.Spec{Name: "cpu", Sizes: []string{"Standard_D16s_v5"}}}, nil, rows, time.UnixMilli(1_800_000_000_000))
	rows = nil
	bytes := (bytesInUse() - before) / float64(jobs)
	runtime.KeepAlive(s)
	return bytes
}

// TestMemoryOfALine does not run beside others, which would be counted, too.
func TestMemoryOfALine(t *testing.T) {
	for _, line := range lines {
		if got := bytesOfJob(20_000, line.row); got > line.most {
			t.Errorf("%s: a job that waits takes %.0f bytes, want at most %.0f", line.name, got, line.most)
		} else {
			t.Logf("%s: %.0f bytes a job", line.name, got)
		}
	}
}

// TestMemoryOfALineThatIsRead does not run beside others either: rows that are read page by page are packed at once.
func TestMemoryOfALineThatIsRead(t *testing.T) {
	const pages, page = 20, 1_000
	for _, line := range lines {
		before := bytesInUse()
		var rows Rows
		for n := range pages {
			read := make([]*pool.Job, page)
			for i := range read {
				read[i] = line.row(n*page + i)
			}
			rows.Put(read...)
		}
		if got := (bytesInUse() - before) / (pages * page); got > line.most {
			t.Errorf("%s: a job that was read takes %.0f bytes, want at most %.0f", line.name, got, line.most)
		}
		last := line.row(rows.Len() - 1)
		if got := NewStateOf(pool.Head{}, nil, &rows, time.Time{}).LiveJob(last.Order); !reflect.DeepEqual(got, last) {
			t.Errorf("%s: the last job is %+v, want %+v", line.name, got, last)
		}
	}
}

// Rows that are read again replace those from before, whatever the order in which they come.
func TestRowsThatAreReadAgain(t *testing.T) {
	t.Parallel()
	var rows Rows
	rows.Put(waitingRow(9, "old"))
	rows.Begin()
	rows.Put(waitingRow(2, "true"), waitingRow(3, "true"), waitingRow(1, "true"))
	rows.Drop(map[string]bool{waitingRow(2).Order: true, waitingRow(3).Order: true})
	rows.Put(waitingRow(2, "false"))
	if rows.Len() != 2 {
		t.Errorf("got %d rows, want 2", rows.Len())
	}
	s := NewStateOf(pool.Head{}, nil, &rows, time.Time{})
	var got []string
	for _, j := range s.liveJobs() {
		got = append(got, j.row().Spec.Command[0])
	}
	if fmt.Sprint(got) != "[true false]" || s.line.inLine != 2 {
		t.Errorf("got %v, %d in line", got, s.line.inLine)
	}
}

func BenchmarkMemory(b *testing.B) {
	for _, line := range lines {
		b.Run(line.name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(bytesOfJob(200_000, line.row), "B/job")
			}
		})
	}
}

// TestPackedRowIsTheSame packs rows with any values in their fields, and compares what comes
// back. A field that is new is among them.
func TestPackedRowIsTheSame(t *testing.T) {
	t.Parallel()
	const seed = 20261128
	random := rand.New(rand.NewPCG(seed, seed))
	packed, shared := 0, map[*pool.Job]int{}
	s := NewState(pool.Head{}, nil, nil, time.Time{})
	for n := range 20_000 {
		row := waitingRow(n, "true")
		for range random.IntN(4) {
			change(random, reflect.ValueOf(&row.Spec).Elem())
		}
		if random.IntN(2) == 0 {
			change(random, reflect.ValueOf(row).Elem())
		}
		if s.Jobs.Get(row.Order) != nil {
			continue
		}
		row.VMID = "" // it waits
		want := *row
		s.takeIn([]*Job{newJob(row)}, time.Time{})
		s.pack()
		j := s.Jobs.Get(want.Order)
		if j.alone != "" {
			packed++
			shared[j.Job]++
		}
		if got := j.row(); !reflect.DeepEqual(*got, want) {
			t.Fatalf("seed %d: packed and opened, job %d is\n%+v, want\n%+v", seed, n, *got, want)
		}
		if j.Order != want.Order || j.ID != want.ID {
			t.Fatalf("job %d is %s, %s, want %s, %s", n, j.Order, j.ID, want.Order, want.ID)
		}
	}
	if packed < 5_000 || len(shared) > packed-5_000 {
		t.Errorf("%d rows were packed, with %d in common; the test needs 5,000 that share", packed, len(shared))
	}
}

// change gives one field of a struct another value: nothing, something empty, or something.
func change(random *rand.Rand, of reflect.Value) {
	f := of.Field(random.IntN(of.NumField()))
	switch f.Kind() {
	case reflect.String:
		f.SetString([]string{"", "a", "some more words", fmt.Sprintf("%0300d", random.IntN(3))}[random.IntN(4)])
	case reflect.Int, reflect.Int64:
		f.SetInt(random.Int64N(5))
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.String {
			f.Set(reflect.ValueOf([][]string{nil, {}, {""}, {"a", "b c", ""}}[random.IntN(4)]))
		}
	case reflect.Map:
		f.Set(reflect.ValueOf([]map[string]string{nil, {}, {"": ""}, {"A": "1", "B": ""}}[random.IntN(4)]))
	case reflect.Struct:
		if at, ok := f.Addr().Interface().(*time.Time); ok {
			*at = []time.Time{{}, time.Unix(1, 2).UTC(), time.Unix(1, 2).In(time.FixedZone("here", 3600))}[random.IntN(3)]
		}
	}
}
