package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// bench is an instance with the example and a command line that talks to it.
type bench struct {
	t       *testing.T
	app     *apptest.Instance
	program *Program
	out     lockedBuffer
	err     lockedBuffer

	// Submitted and cancelled, when set, are called after a job was submitted or
	// cancelled, before the command line has the answer.
	submitted, cancelled func(id string)
}

// lockedBuffer may be written by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, app: apptest.Example(t)}
	inner := httpapi.New(httpapi.Services{
		Jobs:   b.app.Jobs,
		Pools:  b.app.Pools,
		Nodes:  b.app.Nodes,
		Usage:  b.app.Ledger,
		Pushes: b.app.Pushes,
	}, b.app.Share, b.app.Log)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-functions-key") != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
		id, cancel := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/jobs/"), "/cancel")
		switch {
		case r.Method != http.MethodPost:
		case cancel && b.cancelled != nil:
			b.cancelled(id)
		case r.URL.Path == "/api/jobs" && b.submitted != nil:
			b.submitted(path.Base(w.Header().Get("Location")))
		}
	}))
	t.Cleanup(web.Close)
	env := map[string]string{"DSVM_URL": web.URL, "DSVM_KEY": "secret"}
	b.program = &Program{
		In:     strings.NewReader(""),
		Out:    &b.out,
		Err:    &b.err,
		Dir:    t.TempDir(),
		Zone:   time.UTC,
		Getenv: func(name string) string { return env[name] },
		Now:    func() time.Time { return apptest.Noon },
	}
	return b
}

func (b *bench) run(args ...string) (code int, out, errs string) {
	b.t.Helper()
	code = b.program.Main(b.t.Context(), args)
	return code, b.out.String(), b.err.String()
}

// writeLog puts a log on the share.
func (b *bench) writeLog(id, attempt, stream, text string) {
	dir := filepath.Join(b.app.Share, "jobs", "cpu", id, attempt)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, stream+".log"), []byte(text), 0o644)); err != nil {
		b.t.Error(err)
	}
}

// assigned returns the number of a job's assignment. Nodes come up until there is one
// for the job.
func (b *bench) assigned(id string) int64 {
	for n := 2; n < 10; n++ {
		j, err := b.app.Jobs.Job(b.t.Context(), id)
		if err != nil {
			b.t.Error(err)
		}
		if j.State == job.Assigned {
			return j.N
		}
		ready := &protocol.Ready{Name: fmt.Sprintf("dsvm-cpu-d2s-v5_%d", n), Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}
		b.report(fmt.Sprintf("cpu-%d", n), protocol.ReportItem{Ready: ready})
	}
	b.t.Errorf("job %s gets no node", id)
	return 0
}

// report brings what a node of pool cpu reports.
func (b *bench) report(vmid string, items ...protocol.ReportItem) {
	if err := b.app.Report(b.t.Context(), "cpu", vmid, items...); err != nil {
		b.t.Error(err)
	}
}

// start has a job start on its node, and returns the node and the number of the assignment.
func (b *bench) start(id string) (vmid string, n int64) {
	n = b.assigned(id)
	j, err := b.app.Jobs.Job(b.t.Context(), id)
	if err != nil {
		b.t.Error(err)
		return "", n
	}
	b.report(j.VMID, protocol.ReportItem{Started: &protocol.Started{N: n, At: b.app.Clock.Now()}})
	return j.VMID, n
}

// end has an attempt end on its node.
func (b *bench) end(vmid string, n int64, state job.AttemptState, code int, reason string) {
	now := b.app.Clock.Now()
	b.report(vmid, protocol.ReportItem{Finished: &protocol.Finished{
		N: n, State: string(state), ExitCode: code, Reason: reason, StartedAt: now, EndedAt: now,
	}})
}

func TestTables(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args  string
		width int
		want  string
	}{
		"pools": {args: "pool list", want: `
NAME  KIND   STATE    NODES              QUEUED  RUNNING  WANTED  REASON
cpu   batch  ready    1 booting, 1 busy       1        1       2  -
gpu   batch  blocked  0                       0        0       1  the quota of the family NCASv3_T4 in westeurope is used up; ask for more, or use another region
`},
		"pools on a terminal": {args: "pool list", width: 100, want: `
NAME  KIND   STATE    NODES              QUEUED  RUNNING  WANTED  REASON
cpu   batch  ready    1 booting, 1 busy       1        1       2  -
gpu   batch  blocked  0                       0        0       1  the quota of the family NCASv3_...
`},
		"nodes": {args: "node list --pool cpu", want: `
NAME               POOL  SIZE             STATE    CPUS  JOBS  SINCE    HEARD      PRICE/H  REASON
dsvm-cpu-d2s-v5_1  cpu   Standard_D2s_v5  busy        2     1  28m ago  20s ago  0.096 USD  -
dsvm-cpu-d2s-v5_2  cpu   Standard_D2s_v5  booting     2     0  90s ago  -        0.096 USD  -
`},
		"jobs": {args: "job list", want: `
ID      POOL  NAME      TEAM    STATE    EXIT  SUBMITTED  TOOK  REASON
third   cpu   evaluate  vision  queued      -  90s ago    -     -
second  cpu   train     vision  running     -  28m ago    27m   -
first   cpu   data      vision  failed      3  2h ago     80m   -
`},
		"rejected jobs": {args: "job list --state rejected", want: `
ID   POOL  NAME  TEAM  STATE     EXIT  SUBMITTED  TOOK  REASON
bad  -     -     -     rejected     -  3h ago     -     the job asks for 8 cpus, a node of pool "cpu" (Standard_D2s_v5) has 2; ask for fewer or use a pool of a larger size
`},
		"a rejected job": {args: "job show bad", want: `
id         bad
state      rejected
reason     the job asks for 8 cpus, a node of pool "cpu" (Standard_D2s_v5) has 2; ask for fewer or use a pool of a larger size
submitted  2026-03-02 09:00:00 UTC (3h ago)
ended      2026-03-02 09:00:00 UTC (3h ago)
`},
		"jobs in a state": {args: "job list --state failed --team vision --pool cpu --limit 1", want: `
ID     POOL  NAME  TEAM    STATE   EXIT  SUBMITTED  TOOK  REASON
first  cpu   data  vision  failed     3  2h ago     80m   -
`},
		"a job": {args: "job show first", want: `
id         first
pool       cpu
name       data
team       vision
user       ann
state      failed
exit code  3
submitted  2026-03-02 10:00:00 UTC (2h ago)
started    2026-03-02 10:10:00 UTC (110m ago)
ended      2026-03-02 11:30:00 UTC (30m ago)
attempts
  NUMBER  NODE               STATE     EXIT  STARTED   TOOK  REASON
       1  dsvm-cpu-d2s-v5_0  nodeLost  1001  110m ago  11m   its node was deleted: its agent fell silent and lost its session
       2  dsvm-cpu-d2s-v5_1  failed       3  90m ago   60m   -
spec
`},
		"a pool": {args: "pool show cpu", want: `
name     cpu
kind     batch
state    ready
nodes    1 booting, 1 busy
wanted   2
queued   1
running  1
ladder
  SIZE             CAPACITY  NODES  BLOCKED
  Standard_D2s_v5  regular       2  -
spec
  name: cpu
  kind: batch
  os: linux
  sizes:
    - Standard_D2s_v5
`},
		"usage": {args: "usage --by team --from 2026-03-02 --to 2026-03-03", want: `
TEAM    JOBS  HOURS  NODE-HOURS    COST   WASTE  CURRENCY
-          0   0.00        0.30    0.00  0.0288  USD
vision     1   1.18        1.18  0.1136       -  USD
`},
		"why": {args: "job explain third", want: `
queued: no node has room for it, and 1 node is on its way
place in line: 1 of 1
waits for: a node that comes up; nothing has to be done
`},
		"why a pool": {args: "pool explain cpu", want: `
growing: it has 2 nodes: 1 starting
waits for: their agents' first word; the first node is given up at 2026-03-02T12:28:30Z; nothing has to be done
`},
		"resume a pool": {args: "pool resume gpu", want: `
gpu
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.program.Width = test.width
			code, out, errs := b.run(strings.Fields(test.args)...)
			if code != 0 || errs != "" {
				t.Fatalf("got code %d, %s", code, errs)
			}
			want := test.want[1:]
			if strings.Contains(want, "\nspec\n") && len(out) > len(want) {
				out = out[:len(want)] // what defaults look like is the business of others
			}
			if out != want {
				t.Errorf("got:\n%s\nwant:\n%s", out, want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args string
		keys string // of the answer, or of its first item
		list int    // how many items; -1 = not a list
	}{
		"pools":       {"pool list", "name kind state reason nodes queued running wanted", 2},
		"a pool":      {"pool show cpu", "name kind state reason nodes queued running wanted", -1},
		"nodes":       {"node list", "id pool name size state reason cpus gpus jobs heardAt since pricePerHour", 2},
		"no nodes":    {"node list --pool gpu", "", 0},
		"jobs":        {"job list --limit 3", "id pool name team user state reason exitCode submittedAt startedAt endedAt attempts", 3},
		"a job":       {"job show first", "id pool name team user state reason exitCode submittedAt startedAt endedAt attempts", -1},
		"usage":       {"usage --by day --from 2026-03-01 --to 2026-03-03", "day jobs seconds nodeSeconds cost waste currency", 1},
		"submit":      {"job submit --pool cpu -- true", "id state", -1},
		"cancel":      {"job cancel third", "id state", -1},
		"why":         {"job explain third", "id state reason place waiting unblocks", -1},
		"why a pool":  {"pool explain cpu", "name state reason waiting", -1},
		"resume":      {"pool resume gpu", "name state", -1},
		"delete":      {"pool delete cpu --yes", "name state", -1},
		"delete gone": {"pool delete gpu --yes", "name state", -1},
		"version":     {"version", "version commit date go os arch protocol", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			code, out, errs := b.run(append([]string{"-o", "json"}, strings.Fields(test.args)...)...)
			if code != 0 || errs != "" {
				t.Fatalf("got code %d, %s", code, errs)
			}
			var one map[string]any
			var many []map[string]any
			if test.list < 0 {
				if err := json.Unmarshal([]byte(out), &one); err != nil {
					t.Fatal(err)
				}
			} else if err := json.Unmarshal([]byte(out), &many); err != nil || len(many) != test.list {
				t.Fatalf("got %d items, %v; want %d: %s", len(many), err, test.list, out)
			} else if len(many) > 0 {
				one = many[0]
			}
			for _, key := range strings.Fields(test.keys) {
				if _, ok := one[key]; !ok {
					t.Errorf("%s is missing in %s", key, out)
				}
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args string
		code int
		says string // on standard error
	}{
		"no command":           {"", 2, "Usage:"},
		"a noun without verb":  {"pool", 2, "dsvm pool [command]"},
		"unknown command":      {"frob", 2, "unknown command"},
		"unknown verb":         {"pool lst", 2, `did you mean "list"`},
		"unknown flag":         {"pool list --frob", 2, "--frob"},
		"wrong output":         {"pool list -o xml", 2, "table or json"},
		"too many arguments":   {"pool show a b", 2, "NAME of a pool"},
		"no argument":          {"job show", 2, "ID of a job"},
		"no such pool":         {"pool show none", 1, "dsvm pool list"},
		"no such job":          {"job show none", 1, "dsvm job list"},
		"no such state":        {"job list --state done", 2, "the states are"},
		"limit":                {"job list --limit 0", 2, "--limit"},
		"usage by nothing":     {"usage --by colour", 2, "--by"},
		"usage at no time":     {"usage --from yesterday", 2, "--from"},
		"apply without a file": {"pool apply", 2, "-f FILE"},
		"apply what is not":    {"pool apply -f none.yaml", 2, "none.yaml"},
		"submit nothing":       {"job submit --pool cpu", 2, "what to run"},
		"submit nowhere":       {"job submit -- true", 2, "--pool"},
		"submit to no pool":    {"job submit --pool none -- true", 1, "no pool"},
		"bad variable":         {"job submit --pool cpu --env X -- true", 2, "NAME=VALUE"},
		"bad time":             {"job submit --pool cpu --not-before later -- true", 2, "--not-before"},
		"two kinds of work":    {"job submit --pool cpu --script x -- true", 2, "not both"},
		"two standard inputs":  {"job submit --script - -f -", 2, "standard input"},
		"an id that is taken":  {"job submit --pool cpu --id first -- true", 1, "another id"},
		"run as json":          {"run --pool cpu -o json -- true", 2, "-o json"},
		"logs as json":         {"job logs first -o json", 2, "-o json"},
		"attempt zero":         {"job logs first --attempt 0", 2, "numbered from 1"},
		"logs of none":         {"job logs third", 1, "not started"},
		"wait for a failure":   {"job wait first", 3, "exit code 3"},
		"wait for a rejection": {"job wait bad", 125, "8 cpus"},
		"wait too long":        {"job wait third --timeout 50ms", 1, "not ended within"},
		"wait no time":         {"job wait third --timeout 0s", 2, "--timeout"},
		"wait for nothing":     {"job wait none", 1, "no job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			code, out, errs := b.run(strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(errs, test.says) {
				t.Errorf("got code %d: %s\nwant %d: %s", code, errs, test.code, test.says)
			}
			if out != "" && !strings.HasPrefix(name, "wait for a") {
				t.Errorf("got %q on standard output", out)
			}
		})
	}
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	files := map[string]string{
		"job.yaml": "pool: gpu\nname: from the file\nscript: echo no\nenv:\n  A: file\n  B: file\nretry:\n  max: 3\n",
		"x.sh":     "echo hi\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.program.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := b.run(
		"job",
		"submit",
		"-f",
		"job.yaml",
		"--id",
		"mine",
		"--pool",
		"cpu",
		"--cpus",
		"2",
		"--env",
		"A=flag=1",
		"--env",
		"C=flag",
		"--label",
		"k=v",
		"--priority",
		"high",
		"--timeout",
		"90s",
		"--retry-on",
		"nodeLost,exitCode:137",
		"--backoff",
		"20s",
		"--not-before",
		"2026-03-02T13:00:00+01:00",
		"--team",
		"t",
		"--user",
		"u",
		"--workdir",
		"w",
		"--memory",
		"4Gi",
		"--stop",
		"leader",
		"python",
		"train.py",
		"--pool",
		"x",
	)
	if code != 0 || out != "mine\n" || errs != "" {
		t.Fatalf("got %d %q %q", code, out, errs)
	}
	j, err := b.app.Jobs.Job(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(j.Spec)
	var want job.Spec
	if err := json.Unmarshal([]byte(`{"id":"mine","pool":"cpu","name":"from the file","team":"t","user":"u","command":["python","train.py","--pool","x"],
		"workdir":"w","env":{"A":"flag=1","B":"file","C":"flag"},"resources":{"cpus":2,"memory":"4Gi"},"priority":"high","notBefore":"2026-03-02T12:00:00Z","timeout":"90s",
		"retry":{"max":3,"on":["nodeLost","exitCode:137"],"backoff":"20s"},"stop":"leader","labels":{"k":"v"}}`), &want); err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(want); string(got) != string(text) {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func TestListIsNoDocument(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.In = strings.NewReader(`[{"pool": "cpu", "command": ["true"]}]`)
	if code, _, errs := b.run("job", "submit", "-f", "-"); code != 2 || !strings.Contains(errs, "holds a list") {
		t.Errorf("got code %d, %s", code, errs)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.In = strings.NewReader("pool: cpu\ncommand: ['true']\n\npriority: urgent\n")
	code, _, errs := b.run("job", "submit", "-f", "-")
	if code != 2 || !strings.Contains(errs, "-:4: ") || !strings.Contains(errs, "priority") || strings.Contains(errs, "line 1") {
		t.Errorf("got %d %q", code, errs)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.In = strings.NewReader(strings.ReplaceAll(apptest.PoolDocument, `"cpu"`, `"new"`))
	if code, out, errs := b.run("pool", "apply", "-f", "-"); code != 0 || out != "new\n" || errs != "" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if _, err := b.app.Pools.Pools(t.Context(), "new"); err != nil {
		t.Error(err)
	}
	b.program.In = strings.NewReader(`{"name":"other","sizes":["Standard_X9"],"nodes":{"max":4}}`)
	code, out, errs := b.run("pool", "apply", "-f", "-")
	if code != 0 || !strings.HasSuffix(out, "other\n") ||
		!strings.HasPrefix(errs, "dsvm: the size Standard_X9 is not in this version's own list") {
		t.Errorf("with a warning: got %d %q %q", code, out, errs)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		state  job.AttemptState
		exit   int
		reason string
		code   int
		errs   string
	}{
		"success":        {job.AttemptSucceeded, 0, "", 0, "warned\n"},
		"failure":        {job.AttemptFailed, 7, "", 7, "exit code 7"},
		"timeout":        {job.AttemptTimedOut, job.ExitTimedOut, "longer than 2s", 124, "longer than 2s"},
		"cancelled":      {job.AttemptCancelled, job.ExitCancelled, "", 130, job.CancelledByRequest},
		"start failed":   {job.AttemptStartFailed, job.ExitStartFailed, "no such program", 125, "no such program"},
		"no unix code":   {job.AttemptFailed, 3221225472, "", 1, "failed"},
		"largest a code": {job.AttemptFailed, 255, "", 255, "exit code 255"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.submitted = func(id string) {
				b.writeLog(id, "1", "stdout", "hello\x00\n")
				b.writeLog(id, "1", "stderr", "warned\n")
				node, n := b.start(id)
				if test.state == job.AttemptCancelled {
					if _, err := b.app.Jobs.Cancel(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				b.end(node, n, test.state, test.exit, test.reason)
			}
			code, out, errs := b.run("run", "--pool", "cpu", "--", "sh", "-c", "echo hello")
			if code != test.code || out != "hello\x00\n" || !strings.Contains(errs, "warned\n") || !strings.Contains(errs, test.errs) {
				t.Errorf("got %d %q %q; want %d, %q", code, out, errs, test.code, test.errs)
			}
		})
	}
}

// A run follows every attempt, one after the other.
func TestRunFollowsRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.submitted = func(id string) {
		b.writeLog(id, "1", "stdout", "first\n")
		b.writeLog(id, "2", "stdout", "second\n")
		node, n := b.start(id)
		b.end(node, n, job.AttemptFailed, 7, "")
		b.app.Clock.Set(apptest.Noon.Add(time.Minute))
		if err := b.app.Pools.Tick(t.Context(), "cpu", b.app.Clock.Now()); err != nil {
			t.Error(err)
		}
		node, n = b.start(id)
		go b.end(node, n, job.AttemptSucceeded, 0, "")
	}
	if code, out, errs := b.run("run", "--pool", "cpu", "--retry-max", "1", "--retry-on", "exitCode:7", "true"); code != 0 ||
		out != "first\nsecond\n" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
}

// Ctrl-C cancels the job, and the run goes on to its end.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var node string
	var n int64
	b.submitted = func(id string) {
		b.writeLog(id, "1", "stdout", "working\n")
		node, n = b.start(id)
		interrupt()
	}
	b.cancelled = func(string) { b.end(node, n, job.AttemptCancelled, job.ExitCancelled, "") }
	code := b.program.Main(ctx, []string{"run", "--pool", "cpu", "--id", "c", "--", "sleep", "100"})
	if errs := b.err.String(); code != 130 || !strings.Contains(errs, "cancelling job c") || b.out.String() != "working\n" {
		t.Errorf("got %d %q %q", code, b.out.String(), errs)
	}
}

// Ctrl-C ends what only waits, and leaves the job alone.
func TestWaitInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if code := b.program.Main(ctx, []string{"job", "wait", "third"}); code != 130 {
		t.Errorf("got %d %q", code, b.err.String())
	}
	if j, _ := b.app.Jobs.Job(t.Context(), "third"); j.State != job.Queued {
		t.Errorf("the job is %s", j.State)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"job logs first":                      "last\n",
		"job logs first --attempt 1":          "lost\n",
		"job logs first --stderr":             "oops\n",
		"job logs first -f":                   "last\n",
		"job logs --follow first --attempt 1": "lost\n",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.writeLog("first", "1", "stdout", "lost\n")
			b.writeLog("first", "2", "stdout", "last\n")
			b.writeLog("first", "2", "stderr", "oops\n")
			if code, out, errs := b.run(strings.Fields(args)...); code != 0 || out != want || errs != "" {
				t.Errorf("got %d %q %q, want %q", code, out, errs, want)
			}
		})
	}
}

func TestInstance(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, test := range map[string]struct {
		env  map[string]string
		file string // instance.json two folders up; URL stands for one that runs
		code int
		says string
	}{
		"none":              {nil, "", 1, "dsvm up"},
		"in a file":         {nil, `{"url":"URL","key":"secret"}`, 0, ""},
		"a file that is no": {nil, `{"url":`, 1, "remove it"},
		"stopped":           {nil, `{"url":"` + closed.URL + `"}`, 1, "dsvm up starts it again"},
		"wrong key":         {nil, `{"url":"URL","key":"other"}`, 1, "DSVM_KEY"},
		"named and stopped": {map[string]string{"DSVM_URL": closed.URL}, "", 1, "DSVM_URL"},
		"not an address":    {map[string]string{"DSVM_URL": "here"}, "", 2, "DSVM_URL"},
		"environment first": {map[string]string{"DSVM_URL": closed.URL}, `{"url":"URL","key":"secret"}`, 1, "DSVM_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			address := b.program.Getenv("DSVM_URL")
			b.program.Getenv = func(name string) string { return test.env[name] }
			if test.file != "" {
				folder := filepath.Join(b.program.Dir, InstanceFolder)
				if err := errors.Join(os.Mkdir(folder, 0o700),
					os.WriteFile(filepath.Join(folder, InstanceFile), []byte(strings.ReplaceAll(test.file, "URL", address)), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			b.program.Dir = filepath.Join(b.program.Dir, "a", "b")
			code, _, errs := b.run("pool", "list")
			if code != test.code || !strings.Contains(errs, test.says) {
				t.Errorf("got %d %q, want %d %q", code, errs, test.code, test.says)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"pool show ":           "cpu\tready\ngpu\tblocked\n",
		"job cancel ":          "third\tqueued evaluate\n",
		"job submit --pool ":   "gpu\tblocked\n",
		"job list --state ":    "timedOut\n",
		"usage --by ":          "team\n",
		"pool list --output ":  "json\n",
		"run --priority ":      "high\n",
		"node list --pool ":    "cpu\tready\n",
		"job logs --attempt 1": "",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			code, out, _ := b.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("got %d %q, want %q", code, out, want)
			}
		})
	}
}

// Other people's words cannot move the cursor, and colours are for terminals.
func TestTableIsPlain(t *testing.T) {
	t.Parallel()
	for name, color := range map[string]bool{"plain": false, "coloured": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.program.Color = color
			if err := b.app.Submit(t.Context(), `{"id":"evil","pool":"cpu","command":["true"]}`); err != nil {
				t.Fatal(err)
			}
			node, n := b.start("evil")
			b.end(node, n, job.AttemptFailed, 1, "a\x1b[2Jb\nc")
			_, out, _ := b.run("job", "list", "--state", "failed", "--limit", "1")
			if !strings.Contains(out, "a[2Jb c") {
				t.Errorf("got %q", out)
			}
			if got := strings.Contains(out, "\x1b[31mfailed\x1b[0m"); got != color {
				t.Errorf("colour: got %t in %q", got, out)
			}
		})
	}
}
