package agent

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// killedJob is a job of TestKilledAgents: what it does, and what it leaves once it has
// succeeded.
type killedJob struct {
	text string
	left map[string]string
}

// killedJobs are the kinds of jobs; ID stands for the name of each.
var killedJobs = []killedJob{
	{"true", nil},
	{"echo ID", map[string]string{"stdout.log": "ID\n"}},
	{"echo ID > $DSVM_OUTPUT/x", map[string]string{"output/x": "ID\n"}},
	{"echo ID; echo ID > wd; sleep 0.05; echo end >&2", map[string]string{"stdout.log": "ID\n", "stderr.log": "end\n", "wd/wd": "ID\n"}},
	{"sleep 0.2", nil},
	{"echo ID > x; rm x; echo ID > $DSVM_SCRATCH/x", nil},
	{"for i in 1 2 3 4 5 6 7 8; do echo ID; done; sleep 0.01", map[string]string{"stdout.log": strings.Repeat("ID\n", 8)}},
	{"sleep 60 & sleep 0.02", nil},
}

// TestKilledAgents kills agents at random while jobs of many kinds run. No job runs twice, none
// sees anything of another, what succeeded is whole, and what an agent had ready is gone
// before its next life reports.
func TestKilledAgents(t *testing.T) {
	t.Parallel()
	kills := 6
	if os.Getenv("DSVM_LONG") != "" {
		kills = 60
	}
	const seed, batch = 16, 48
	random := rand.New(rand.NewPCG(seed, seed))
	s := onServiceBus(t, time.Minute)
	if err := os.Mkdir(filepath.Join(s.cfg.Share, "runs"), 0o755); err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	ended := 0
	for kill := range kills + 1 {
		var log bytes.Buffer
		s.change(func() { s.reports = nil })
		var items []protocol.WorkItem
		for range batch {
			next++
			items = append(items, s.killed(next))
		}
		agent := s.child(&log, "DSVM_CPUS=4")
		s.give(items...)
		if kill == kills { // it ends everything
			for id := range next {
				s.finished(id + 1)
			}
			break
		}
		s.until("the agent's first report", func(all []protocol.Report) bool { return len(boots(all)) > 0 })
		s.checkReady(t)
		wanted := random.IntN(batch)
		s.until("ends", func(all []protocol.Report) bool { return len(ends(all)) >= wanted })
		ended += wanted
		timer := time.NewTimer(time.Duration(random.IntN(10_000)) * time.Microsecond) // at any moment
		<-timer.C
		if err := agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait()
	}
	states := map[string]int{}
	for id := range next {
		states[s.checkKilled(t, id+1)]++
	}
	t.Logf("%d kills: %v", kills, states)
	if states[string(job.AttemptSucceeded)] == 0 || states[string(job.AttemptAgentRestarted)] == 0 {
		t.Errorf("got %v: no kill came while something ran, or nothing ended", states)
	}
}

// killed is a job of TestKilledAgents.
func (s *namespace) killed(id int64) protocol.WorkItem {
	return script(id, fmt.Sprintf(`echo >> $DSVM_SHARE/runs/%d
[ -z "$(ls -A . $DSVM_OUTPUT $DSVM_SCRATCH | grep -v :)" ] || { echo FOREIGN; ls -A . $DSVM_OUTPUT $DSVM_SCRATCH; }
%s`, id, strings.ReplaceAll(killedJobs[id%int64(len(killedJobs))].text, "ID", fmt.Sprintf("job-%d", id))))
}

// checkReady checks that nothing is ready on the share but what this life of the agent made,
// and that nothing is in it.
func (s *namespace) checkReady(t *testing.T) {
	t.Helper()
	lives := map[string]bool{}
	own := filepath.Join(s.cfg.Share, "jobs/cpu", "+"+s.cfg.VMID)
	_ = filepath.WalkDir(own, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == own { // a tree that was just taken
			return nil
		}
		name, _ := filepath.Rel(own, path)
		life, _, _ := strings.Cut(name, ".")
		lives[life] = true
		if !e.IsDir() {
			t.Errorf("%s is ready for the next attempt", name)
		}
		return nil
	})
	if len(lives) > 1 {
		t.Errorf("trees of several lives are there: %v", lives)
	}
}

// checkKilled checks what a job has left, and returns how it ended.
func (s *namespace) checkKilled(t *testing.T, id int64) string {
	t.Helper()
	f := s.finished(id)
	name := fmt.Sprintf("job-%d", id)
	if runs, _ := os.ReadFile(filepath.Join(s.cfg.Share, "runs", fmt.Sprint(id))); len(runs) > 1 {
		t.Errorf("%s ran %d times", name, len(runs))
	}
	kind := killedJobs[id%int64(len(killedJobs))]
	dir := filepath.Join(s.cfg.Share, "jobs/cpu", name)
	succeeded := f.State == string(job.AttemptSucceeded)
	if !succeeded && f.State != string(job.AttemptAgentRestarted) {
		t.Errorf("%s: got %+v", name, f)
	}
	for file, text := range kind.left {
		want := strings.ReplaceAll(text, "ID", name)
		got, _ := os.ReadFile(filepath.Join(dir, "1", file))
		if succeeded && string(got) != want || !strings.HasPrefix(want, string(got)) {
			t.Errorf("%s, %s: %s has %q, want %q", name, f.State, file, got, want)
		}
	}
	left := 0
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		left++
		file, _ := filepath.Rel(filepath.Join(dir, "1"), path)
		if _, ok := kind.left[file]; !e.IsDir() && !ok && (succeeded || file != "wd/x") {
			text, _ := os.ReadFile(path)
			t.Errorf("%s, %s: it has %s: %q", name, f.State, file, text)
		}
		return nil
	})
	if succeeded && kind.left == nil && left > 0 {
		t.Errorf("%s has written nothing, and left %d entries", name, left)
	}
	return f.State
}
