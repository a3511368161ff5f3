//go:build unix

package agent

import (
	"path/filepath"
	"testing"
)

// TestSource runs jobs at commits of a repository.
func TestSource(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("train/run.sh", "echo first")
	o.commit("train/run.sh", "echo second")
	last := o.commit("train/run.sh", "echo third")
	n := begin(t)
	o.source(first)
	below := o.source(first)
	below.Path = "train"
	workdir := at(4, o.source(last), "pwd; sh run.sh")
	workdir.Assign.Workdir = "train"
	n.work(at(1, o.source(last), "sh train/run.sh; git rev-parse HEAD; git status --porcelain; git remote get-url origin; echo $DSVM_SOURCE; echo new > train/new"),
		at(2, below, "sh run.sh; git log --format=%s | wc -l"), at(3, o.source(last), "sh train/run.sh; ls train"), workdir)
	tree := func(n2 string) string { return filepath.Join(n.cfg.InstanceDir, "attempts", n2, "source") }
	for id, want := range map[int64]string{
		1: "third\n" + last + "\n" + o.URL + "/r.git\n" + tree("1") + "\n",
		2: "first\n1\n",
		3: "third\nrun.sh\n",
		4: tree("4") + "/train\nthird\n",
	} {
		if f := n.finished(id); f.State != "succeeded" || f.StartedAt.IsZero() {
			t.Errorf("assignment %d: got %+v; %s", id, f, n.file(id, "stderr.log"))
		}
		if got := n.file(id, "stdout.log"); got != want {
			t.Errorf("assignment %d: got %q, want %q", id, got, want)
		}
		if got := n.file(id, "stderr.log"); got != "" {
			t.Errorf("assignment %d: got %q on its standard error", id, got)
		}
	}
}
