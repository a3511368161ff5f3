package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"dsvmpools/shared/job"
)

// TestTableOnATerminal: a table that is too wide for the terminal shortens cells, then
// leaves out optional columns, then cuts the last one; written to a file it is whole.
func TestTableOnATerminal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	p := &Program{Now: func() time.Time { return now }}
	long := strings.Repeat("why ", 20)
	for name, test := range map[string]struct {
		width int
		want  []string
	}{
		"no terminal": {0, []string{
			"NAME    SIZE             CPUS  SINCE    STATE  REASON",
			"node-1  Standard_D2s_v5     2  45s ago  ready  " + strings.TrimSpace(long)}},
		"wide enough": {60, []string{
			"NAME    SIZE             CPUS  SINCE    STATE  REASON",
			"node-1  Standard_D2s_v5     2  45s ago  ready  why why wh..."}},
		"short forms": {49, []string{
			"NAME    SIZE    CPUS  SINCE  STATE  REASON",
			"node-1  D2s_v5     2  45s    ready  why why wh..."}},
		"one column less": {43, []string{
			"NAME    SIZE    CPUS  STATE  REASON",
			"node-1  D2s_v5     2  ready  why why why..."}},
		"both columns less": {35, []string{
			"NAME    SIZE    STATE  REASON",
			"node-1  D2s_v5  ready  why why w..."}},
		"too narrow for what stays": {26, []string{
			"NAME   SIZE   STATE  RE...",
			"no...  D2...  ready  wh..."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			q := *p
			q.Out, q.Width = &out, test.width
			then := now.Add(-45 * time.Second)
			table := newTable("NAME SIZE ?<CPUS ?SINCE *STATE REASON")
			table.add("node-1", sizeCell("Standard_D2s_v5"), 2, q.age(&then), "ready", long)
			if err := table.write(&q, ""); err != nil {
				t.Fatal(err)
			}
			if got, want := out.String(), strings.Join(test.want, "\n")+"\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestListsFit: lists of usual names fit the usual terminal, and narrow ones from 60
// columns on with what matters most.
func TestListsFit(t *testing.T) {
	t.Parallel()
	testLists(t, 80, "dsvm-cpu-d4s-v5_13", "D4s_v5", "draining", "0.192 USD", "01kb3k9q1xjv0n6w4ry2t8hsez", "succeeded", "timed out", "2 ready, 1 busy")
	testLists(t, 60, "dsvm-cpu-d4s-v5_13", "draining", "01kb3k9q1xjv0n6w4ry2t8hsez", "succeeded", "timed out", "2 ready, 1 busy", "blocked")
	testLists(t, 40, "draining", "succeeded", "timed out", "blocked", "research-gpu")
}

// testLists shows lists on a terminal, which must have some texts.
func testLists(t *testing.T, width int, musts ...string) {
	t.Helper()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	var out strings.Builder
	p := &Program{Now: func() time.Time { return now }, Out: &out, Width: width}
	then := now.Add(-99 * time.Second)
	nodes := newTable(nodeColumns)
	nodes.add(
		"dsvm-cpu-d4s-v5_13", "cpu", sizeCell("Standard_D4s_v5"), "draining", 4, 2, p.age(&then), p.age(&then),
		"0.192 USD", "the pool is idle",
	)
	jobs := newTable(jobColumns)
	jobs.add(
		"01kb3k9q1xjv0n6w4ry2t8hsez", "cpu", "evaluate", "vision", "succeeded", 0, p.age(&then), "99s",
		"its process ended with exit code 0",
	)
	jobs.add("tune.17", "research-gpu", "\u7814\u7a76 \u8bad\u7ec3 e\u0301", "vision", job.TimedOut, 1005, p.age(&then), "99s", "it ran longer than its timeout 2h")
	pools := newTable(poolColumns)
	pools.add("research-gpu", "batch", "blocked", "2 ready, 1 busy", 12, 3, 4, "the subscription has no quota left")
	for _, table := range []*table{nodes, jobs, pools} {
		if err := table.write(p, ""); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(out.String()) {
		if width := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); width > p.Width {
			t.Errorf("%d columns: %s", width, line)
		}
	}
	for _, must := range musts {
		if !strings.Contains(out.String(), must) {
			t.Errorf("%q is missing in\n%s", must, out.String())
		}
	}
}
