package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// TestHomeOnTheShare: a person has one home in two pools at once, with the right owner, and what
// breaks on a share is on the disk of each node.
func TestHomeOnTheShare(t *testing.T) {
	t.Parallel()
	first, second := sessionConfig(t), sessionConfig(t)
	second.Share = first.Share
	a, b := beginPeople(t, first), beginPeople(t, second)
	atHome := func(p *people, n int64, user string, uid int) protocol.WorkItem {
		item := p.session(n, user, uid)
		item.Assign.Session.Home = protocol.HomeShare
		return item
	}
	a.work(atHome(a, 1, "ann", 200101), atHome(a, 2, "bob", 200102))
	b.work(atHome(b, 1, "ann", 200101))
	a.started(1)
	a.started(2)
	b.started(1)
	if at, err := os.Stat(filepath.Join(first.Share, "home/ann")); err != nil || at.Mode().Perm() != 0o700 ||
		at.Sys().(*syscall.Stat_t).Uid != 200101 || at.Sys().(*syscall.Stat_t).Gid != 200101 {
		t.Errorf("on the share: got %v, %v", at, err)
	}
	annA, annB, bob := a.good(1), b.good(1), a.good(2)
	for _, test := range []struct {
		name, command, want string
		at                  *people
		key                 string
	}{
		{"home", `cd; pwd -P; stat -c '%a %U' .`, "/run/dsvm/share/home/ann\n700 ann", a, annA},
		{"skeleton", `test -f .profile && echo yes`, "yes", a, annA},
		{"local folders", `echo "$DSVM_LOCAL $JUPYTER_DATA_DIR $JUPYTER_RUNTIME_DIR $IPYTHONDIR $PIP_CACHE_DIR"`, "/home/ann " +
			"/home/ann/.local/share/jupyter /home/ann/.local/share/jupyter/runtime /home/ann/.ipython /home/ann/.cache/pip", a, annA},
		{"server of VS Code", `readlink ~/.vscode-server && touch ~/.vscode-server/mine && ls "$DSVM_LOCAL/.vscode-server"`,
			"/home/ann/.vscode-server\nmine", a, annA},
		{"written on one", `echo x > ~/model && echo done`, "done", a, annA},
		{"read on the other", `cat ~/model; ls ~/.vscode-server; stat -c %a "$DSVM_LOCAL"`, "x\n700", b, annB},
		{"share", `echo y > ~/notebooks/remote/n && cat ~/share/notebooks/ann/n`, "y", b, annB},
		{"greeting of the one", `head -1 "$DSVM_LOCAL/.dsvm-greeting"; tail -1 "$DSVM_LOCAL/.dsvm-greeting"`, "Session S1 on node cpu_0 of pool lab.\n" +
			"Your home is on the share and stays. What is in /home/ann goes with the node.", a, annA},
	} {
		if got, err := test.at.ssh(1, "ann", test.key, test.command); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	if got, err := a.ssh(2, "bob", bob, "ls /run/dsvm/share/home/ann || mv /run/dsvm/share/home/ann /run/dsvm/share/home/x"); err == nil {
		t.Errorf("another's home: got %q", got)
	}

	// The home is made once: the next session finds it, and one that is somebody else's is refused.
	a.work(cancel(3, 1), cancel(4, 2))
	a.finished(1)
	a.finished(2)
	if err := os.Mkdir(filepath.Join(first.Share, "home/eve"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(first.Share, "home/eve"), 200102, 200102); err != nil {
		t.Fatal(err)
	}
	a.work(protocol.WorkItem{Ack: []int64{1, 2}}, atHome(a, 5, "ann", 200101), atHome(a, 6, "eve", 200103))
	a.started(5)
	if got, err := a.ssh(5, "ann", a.good(5), "cat ~/model"); err != nil || got != "x" {
		t.Errorf("the next session: got %q, %v", got, err)
	}
	if f := a.finished(6); f.State != string(job.AttemptStartFailed) || !strings.Contains(f.Reason, "belongs to the number 200102") {
		t.Errorf("another's folder: got %+v", f)
	}
	if err := os.Chmod(filepath.Join(first.Share, "home"), 0o777); err != nil { //nolint:gosec // what is to be refused
		t.Fatal(err)
	}
	a.work(atHome(a, 7, "joe", 200104))
	if f := a.finished(7); f.State != string(job.AttemptStartFailed) || !strings.Contains(f.Reason, "root alone writes to") {
		t.Errorf("homes that anybody changes: got %+v", f)
	}
}
