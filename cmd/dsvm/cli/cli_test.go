package cli

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

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
dsvm-cpu-d2s-v5_2  cpu   Standard_D2s_v5  booting     2     0  90s ago  -        0.096 USD  its agent has not reported yet
`},
		"troubles": {args: "trouble", want: `
KIND   ABOUT       SINCE  TROUBLE                                                                                                                DO
quota  pool "gpu"  -      Standard_NC4as_T4_v3: the quota of the family NCASv3_T4 in westeurope is used up; ask for more, or use another region  ask for more quota in the portal under Quotas, name another size, or let the jobs wait
`},
		"jobs": {args: "job list", want: `
ID      POOL  NAME      TEAM    STATE    EXIT  SUBMITTED  TOOK  REASON
third   cpu   evaluate  vision  queued      -  90s ago    -     -
second  cpu   train     vision  running     -  28m ago    27m   -
first   cpu   data      vision  failed      3  2h ago     80m   -
`},
		"jobs with what they cost": {args: "job list --cost", want: `
ID      POOL  NAME      TEAM    STATE    EXIT  SUBMITTED  TOOK      COST  REASON
third   cpu   evaluate  vision  queued      -  90s ago    -            -  no node has room for it, and 1 node is on its way
second  cpu   train     vision  running     -  28m ago    27m   0.04 USD  -
first   cpu   data      vision  failed      3  2h ago     80m   0.11 USD  -
`},
		"jobs that have not ended": {args: "job list --state active", want: `
ID      POOL  NAME      TEAM    STATE    EXIT  SUBMITTED  TOOK  REASON
third   cpu   evaluate  vision  queued      -  90s ago    -     -
second  cpu   train     vision  running     -  28m ago    27m   -
`},
		"rejected jobs": {args: "job list --state rejected", want: `
ID   POOL  NAME  TEAM  STATE     EXIT  SUBMITTED  TOOK  REASON
bad  cpu   -     -     rejected     -  3h ago     -     the job asks for 8 cpus, and a node of pool "cpu" (Standard_D2s_v5) has 2; ask for fewer or use a pool of a larger size
`},
		"a rejected job": {args: "job show bad", want: `
id         bad
pool       cpu
state      rejected
reason     the job asks for 8 cpus, and a node of pool "cpu" (Standard_D2s_v5) has 2; ask for fewer or use a pool of a larger size
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
cost       0.11 USD
attempts
  NUMBER  NODE               STATE      EXIT  STARTED   TOOK  REASON
       1  dsvm-cpu-d2s-v5_0  node lost  1001  110m ago  11m   its node was deleted: its agent fell silent and lost its session
       2  dsvm-cpu-d2s-v5_1  failed        3  90m ago   60m   -
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
		"why": {args: "job explain third", want: `
queued: no node has room for it, and 1 node is on its way
place in line: 1 of 1
waits for: a node that comes up; nothing has to be done
`},
		"why a pool": {args: "pool explain cpu", want: `
growing: it has 2 nodes: 1 starting
waits for: their agents' first report; the first node is given up at 2026-03-02 12:28:30 UTC; nothing has to be done
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
		"unknown command":      {"frob", 2, "is not a command"},
		"unknown verb":         {"pool lst", 2, `did you mean "list"`},
		"unknown flag":         {"pool list --frob", 2, "--frob"},
		"wrong output":         {"pool list -o xml", 2, "table or json"},
		"too many arguments":   {"pool show a b", 2, "NAME of a pool"},
		"no argument":          {"job show", 2, "ID of a job"},
		"no such pool":         {"pool show none", 1, "dsvm pool list"},
		"no such job":          {"job show none", 1, "dsvm job list"},
		"no such state":        {"job list --state done", 2, "it takes submitted"},
		"limit":                {"job list --limit 0", 2, "--limit"},
		"usage by nothing":     {"usage --by colour", 2, "--by"},
		"usage at no time":     {"usage --from tomorrow", 2, "--from"},
		"apply without a file": {"pool apply", 2, "-f FILE"},
		"apply what is not":    {"pool apply -f none.yaml", 2, "none.yaml"},
		"submit nothing":       {"job submit --pool cpu", 2, "what to run"},
		"submit nowhere":       {"job submit -- true", 2, "--pool"},
		"submit to no pool":    {"job submit --pool none -- true", 1, "no pool"},
		"bad variable":         {"job submit --pool cpu --env X -- true", 2, "NAME=VALUE"},
		"bad time":             {"job submit --pool cpu --not-before later -- true", 2, "--not-before"},
		"two standard inputs":  {"job submit --script - -f -", 2, "standard input"},
		"an id that is taken":  {"job submit --pool cpu --id first -- true", 1, "another id"},
		"run as json":          {"run --pool cpu -o json -- true", 2, "-o json"},
		"logs as json":         {"job logs first -o json", 2, "-o json"},
		"attempt zero":         {"job logs first --attempt 0", 2, "numbered from 1"},
		"logs of none":         {"job logs third", 1, "not started"},
		"logs of no job":       {"job logs", 2, "the ID of a job"},
		"too long a tail":      {"job logs first --tail 100001", 2, "--tail"},
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
		"stopped":           {nil, `{"url":"` + closed.URL + `"}`, 1, "`dsvm up` starts it again"},
		"wrong key":         {nil, `{"url":"URL","key":"other"}`, 1, "does not accept the key that"},
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
	// A command of one thing offers it once; one of several offers what does not stand there yet.
	b := newBench(t)
	for args, want := range map[string]string{
		"pool show cpu ":    ":4\n",
		"push show x ":      ":4\n",
		"job show first ":   ":4\n",
		"job logs third ":   "second\trunning train\nfirst\tfailed data\n:36\n",
		"job cancel third ": "second\trunning train\nfirst\tfailed data\n:36\n",
	} {
		out := b.complete(args)
		lines := strings.Split(out, "\n")
		for i, line := range lines {
			lines[i] = strings.TrimRight(line, " ")
		}
		if got := strings.Join(lines, "\n"); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
}

// complete is what a shell is offered for the last word.
func (b *bench) complete(args string) string {
	_, out, _ := b.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
	return out
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
