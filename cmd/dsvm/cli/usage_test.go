package cli

import (
	"strings"
	"testing"
)

// A report without rows says on standard error why it may be empty. JSON has an empty list.
func TestUsageWithoutRows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, out, errs := b.run("usage", "--from", "2020-01-01", "--to", "2020-01-02")
	if code != 0 || out != "" || !strings.Contains(errs, "as soon as it has started") {
		t.Errorf("got code %d, output %q, messages %q", code, out, errs)
	}
	code, out, errs = newBench(t).run("usage", "--from", "2020-01-01", "--to", "2020-01-02", "-o", "json")
	if code != 0 || strings.TrimSpace(out) != "[]" || errs != "" {
		t.Errorf("as JSON: got code %d, output %q, messages %q", code, out, errs)
	}
}

// A report has the jobs and nodes that still run, and says so; its totals are below the lines.
func TestUsage(t *testing.T) {
	t.Parallel()
	const day = "--from 2026-03-02 --to 2026-03-03"
	for name, test := range map[string]struct{ args, want, says string }{
		"by team": {"usage --by team " + day, `
TEAM    JOBS  HOURS  NODE-HOURS    COST  WASTE  CURRENCY
-          0   0.00        0.38  0.0000  0.036  USD
vision     2   1.63        1.63  0.1568      -  USD
TOTAL      2   1.63        2.01  0.1568  0.036  USD
`, "dsvm: still running, and counted up to now: 1 attempt and 2 nodes\n"},
		"the dearest": {"usage --by job --sort cost --limit 1 " + day, `
JOB    JOBS  HOURS  NODE-HOURS    COST  WASTE  CURRENCY
first     1   1.18        1.18  0.1136      -  USD
TOTAL     2   1.63        2.01  0.1568  0.036  USD
`, "dsvm: 1 of 3 lines shown; the totals are of all\ndsvm: still running, and counted up to now: 1 attempt and 2 nodes\n"},
		"by a label that no job has": {"usage --by label:project --user ann " + day, `
PROJECT  JOBS  HOURS  NODE-HOURS    COST  WASTE  CURRENCY
-           2   1.63        1.63  0.1568      -  USD
TOTAL       2   1.63        1.63  0.1568      -  USD
`, "dsvm: still running, and counted up to now: 1 attempt\n"},
		"by size": {"usage --by size --from today", `
SIZE             JOBS  HOURS  NODE-HOURS    COST  WASTE  CURRENCY
Standard_D2s_v5     2   1.63        2.01  0.1568  0.036  USD
TOTAL               2   1.63        2.01  0.1568  0.036  USD
`, "dsvm: still running, and counted up to now: 1 attempt and 2 nodes\n"},
		"by two keys": {"usage --by month,team " + day, `
MONTH    TEAM    JOBS  HOURS  NODE-HOURS    COST  WASTE  CURRENCY
2026-03  -          0   0.00        0.38  0.0000  0.036  USD
2026-03  vision     2   1.63        1.63  0.1568      -  USD
TOTAL    -          2   1.63        2.01  0.1568  0.036  USD
`, "dsvm: still running, and counted up to now: 1 attempt and 2 nodes\n"},
		"as CSV": {"usage -o csv --by user --from 2026-03-02 --to 2026-03-02T11:45:00Z", `
user,jobs,seconds,nodeSeconds,cost,waste,boot,idle,draining,currency,open
,0,0,1080,0.00,0.0288,0.0288,0.00,0.0016,USD,0
ann,1,4260,4260,0.1136,,,,,USD,0
`, ""},
		"of what has ended": {"usage --from 2026-03-02 --to 2026-03-02T11:45:00Z --sort waste", `
POOL   JOBS  HOURS  NODE-HOURS    COST   WASTE  CURRENCY
cpu       1   1.18        1.48  0.1136  0.0288  USD
TOTAL     1   1.18        1.48  0.1136  0.0288  USD
`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := newBench(t).run(strings.Fields(test.args)...)
			if strings.Contains(test.args, "csv") {
				test.want = strings.ReplaceAll(test.want, "\n", "\r\n")[1:]
			}
			if code != 0 || out != test.want[1:] || errs != test.says {
				t.Errorf("got code %d,\n%s%s\nwant\n%s%s", code, out, errs, test.want[1:], test.says)
			}
		})
	}
}

func TestUsageRefuses(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"--sort colour":               "--sort",
		"--by label:":                 "label:NAME",
		"--from tomorrow":             "--from",
		"--to 2026":                   "--to",
		"--from today --to yesterday": "is not before",
		"--limit -1":                  "--limit",
		"--by day,colour":             "two of them",
		"rebuild -o csv":              "it takes table or json",
		"--label project":             "NAME=VALUE",
		"--label a=b --label a=c":     "two values",
	} {
		if code, _, errs := newBench(t).run(append([]string{"usage"}, strings.Fields(args)...)...); code != 2 || !strings.Contains(errs, says) {
			t.Errorf("%s: got code %d, %s", args, code, errs)
		}
	}
	code, out, errs := newBench(t).run("usage", "rebuild", "--from", "2026-03-01", "-o", "json")
	if code != 0 || !strings.Contains(out, `"days": 1`) {
		t.Errorf("rebuild: got %d %q %q", code, out, errs)
	}
	if code, out, errs := newBench(t).run("usage", "check", "--from", "2026-03-01"); code != 0 || out != "" || !strings.Contains(errs, "no difference in 1 day with") {
		t.Errorf("check: got %d %q %q", code, out, errs)
	}
	if code, _, errs := newBench(t).run("usage", "--pool", "none"); code != 1 || !strings.Contains(errs, `there is no pool "none"`) {
		t.Errorf("no pool: got code %d, %s", code, errs)
	}
}
