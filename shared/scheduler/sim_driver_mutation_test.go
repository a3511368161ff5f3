package scheduler_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// driverMutation spoils the source of the driver in one place.
type driverMutation struct {
	name      string
	file      string
	old, new  string
	want      []string // invariants, one of which has to catch it
	dir       string   // the package whose source it spoils, "" = drive
	deletions bool     // it only shows when a pool is deleted
	people    bool     // it only shows when people use a pool
	budgets   bool     // it only shows when work is held by budgets
	service   bool     // it only shows in the service's own simulation, in its package
	always    bool     // it is tried in every run of the tests, and not only in long ones
}

var driverMutations = []driverMutation{
	{
		name: "what was not sent is not sent again", file: "drive.go", always: true,
		old:  "			a.mustResend = true\n			return false, err\n",
		new:  "			return false, err\n",
		want: []string{"effects"},
	},
	{
		name: "removals of earlier steps are forgotten", file: "effects.go", always: true,
		old:  "	for _, n := range e.Remove {",
		new:  "	calls.Remove = nil\n	for _, n := range e.Remove {",
		want: []string{"effects"},
	},
	{
		name: "nobody looks at the head when nothing was written", file: "drive.go", always: true,
		old:  "	return d.isOutdated(ctx, a)\n",
		new:  "	return false, nil\n",
		want: []string{"old state"},
	},
	{
		name: "what the head says is not compared", file: "drive.go",
		old:  "	if err == nil && v.Same(a.version) {",
		new:  "	if err == nil && v.Seq > 0 {",
		want: []string{"old state"},
	},
	{
		name: "a look shows an old state", file: "explain.go",
		old:  "		if !v.Same(a.version) {",
		new:  "		if v.IsZero() {",
		want: []string{"old state"},
	},
	{
		name: "a step that may be committed has nobody who sends its work", file: "actor.go",
		old:  "		if fault.CodeOf(err) != fault.Conflict {",
		new:  "		if err == nil {",
		want: []string{"effects"},
	},
	{
		name: "a process that takes a pool up sends nothing again", file: "actor.go",
		old:  "mustResend: true}",
		new:  "mustResend: false}",
		want: []string{"effects"},
	},
	{
		name: "removals are forgotten when a turn fails", file: "actor.go",
		old:  "pool.Effects{Remove: a.calls.Remove, LookUp",
		new:  "pool.Effects{LookUp",
		want: []string{"effects"},
	},
	{
		name: "a failed step leaves the copy as it is", file: "actor.go",
		old:  "func (c *copyOfPool) markOutdated() { c.outdated = true }",
		new:  "func (c *copyOfPool) markOutdated() {}",
		want: []string{"memory", "rest", "rows", "runs twice", "old state"},
	},
	{
		name: "rows that a failed commit named are not read", file: "actor.go",
		old:  "a.version, a.suspect, live)",
		new:  "a.version, nil, live)",
		want: []string{"memory", "rows", "lost job"},
	},
	{
		name: "the version stays behind", file: "actor.go",
		old:  "	a.version = version\n	a.state.ConfirmStep",
		new:  "	_ = version\n	a.state.ConfirmStep",
		want: []string{"version"},
	},
	{
		name: "jobs that have ended are taken in again", file: "actor.go",
		old:  "			if ended {\n				continue\n			}\n",
		new:  "			_ = ended\n",
		want: []string{"rows", "runs twice", "counted twice"},
	},
	{
		name: "jobs that ended meanwhile are not remembered", file: "actor.go",
		old:  "	a.rememberEnded(delta.Ended, d.now())\n",
		new:  "",
		want: []string{"rows", "runs twice", "counted twice"},
	},
	{
		name: "a tick is not sent", file: "effects.go",
		old:  "	if !e.WakeAt.IsZero() {",
		new:  "	if e.WakeAt.IsZero() && !e.RecordAt.IsZero() && e.List {",
		want: []string{"effects"},
	},
	{
		name: "answers of Azure are not taken to the pool", file: "effects.go",
		old:  "	return append(events, d.lookUpEnded(ctx, name, e)...)\n",
		new:  "	d.lookUpEnded(ctx, name, e)\n	return nil\n",
		want: []string{"deadline", "growth", "unseen", "rest", "grows"},
	},
	{
		name: "what has not ended counts as ended", file: "subscribe.go",
		old:  "end.State != \"\" || end.Forgotten {\n			events = append(events, pool.JobEnd{ID: id, State: end.State,",
		new:  "true {\n			events = append(events, pool.JobEnd{ID: id, State: \"succeeded\",",
		want: []string{"too early"},
	},
	{
		name: "nobody subscribes at other pools", file: "subscribe.go",
		old:  "	d.subscribe(ctx, name, e.LookUp, states)\n",
		new:  "",
		want: []string{"hint"},
	},
	{
		name: "other pools are not notified", file: "effects.go",
		old:  "	for other, ids := range e.Notify {",
		new:  "	for other, ids := range map[string][]string{} {",
		want: []string{"effects"},
	},
	{
		name: "sessions are not taken", file: "effects.go",
		old:  "	for _, vmid := range e.Fence {",
		new:  "	for _, vmid := range e.Fence[:0] {",
		want: []string{"effects"},
	},
	{
		name: "rows go before the ledger is copied", file: "effects.go", deletions: true,
		old:  "	err := d.ledger.Record(ctx, name)\n",
		new:  "	err := ctx.Err()\n",
		want: []string{"deletion"},
	},
}

// Each mutation of the driver's source is compiled and simulated, and an invariant has to
// catch it by its name: what the driver promises is held, and not only what the step
// decides (see TestSimulationBites).
func TestSimulationBitesTheDriver(t *testing.T) {
	t.Parallel()
	if underDetector {
		t.Skip("the mutated driver is built without the race detector: `go test` runs this")
	}
	for _, m := range slices.Concat(driverMutations, peopleMutations, budgetMutations) {
		t.Run(m.name, func(t *testing.T) {
			if !m.always && os.Getenv("DSVM_LONG") == "" {
				t.Skip("it takes some seconds; DSVM_LONG=1 runs it")
			}
			t.Parallel()
			if broken := m.simulate(t); !slices.Contains(m.want, broken) {
				t.Errorf("want a violation of %v, got %q", m.want, broken)
			}
		})
	}
}

var violation = regexp.MustCompile(`seed \d+, after \d+ steps: ([A-Za-z0-9. ]+):`)

// simulate builds the tests of this package over the mutated source and runs the
// simulation; it returns the invariant that was violated.
func (m *driverMutation) simulate(t *testing.T) string {
	path, err := filepath.Abs(filepath.Join("..", cmp.Or(m.dir, "drive"), m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %d times %q; correct the mutation", m.file, n, m.old)
	}
	dir := t.TempDir()
	mutant, overlay, binary := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "simulation.test")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutant}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{mutant: []byte(strings.Replace(string(source), m.old, m.new, 1)), overlay: list} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := "."
	if m.service {
		tests = "../service"
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, tests)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not compile: %v\n%s", err, out)
	}
	which := "^TestSimulation$"
	if m.deletions {
		which = "^TestSimulationOfADeletion$"
	}
	if m.people {
		which = "^TestSimulationOfPeople$"
	}
	if m.budgets {
		which = "^TestSimulationOfBudgets$"
	}
	args := []string{"-test.timeout", "3m", "-sim.steps", fmt.Sprint(max(*simSteps, 100_000))}
	if m.service {
		which, args = "^TestSimulationOfVisits$", args[:2]
	}
	run := exec.CommandContext(t.Context(), binary, append(args, "-test.run", which)...)
	out, err := run.CombinedOutput()
	found := violation.FindStringSubmatch(string(out))
	if err == nil || found == nil {
		t.Logf("%v\n%.2000s", err, out)
		return ""
	}
	t.Logf("%.300s", out[strings.Index(string(out), found[0]):])
	return found[1]
}
