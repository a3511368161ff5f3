//go:build unix

package agent

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

// TestJobUser runs an attempt as another user, which only root can.
func TestJobUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes as somebody else")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody")
	}
	cfg := config(t)
	cfg.JobUser = "nobody"
	for dir := filepath.Dir(cfg.InstanceDir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n := launched(t, cfg, newBus(t))
	item := script(1, `set -e
id -u; id -g; echo "$USER"
touch "$DSVM_SCRATCH/x" "$DSVM_OUTPUT/x" "$HOME/y" below
if cat "$DSVM_SCRATCH/../../journal"; then exit 9; fi`)
	item.Assign.Workdir = "a/b"
	n.work(item)
	if f := n.finished(1); f.State != "succeeded" {
		t.Fatalf("got %+v; %s", f, n.file(1, "stderr.log"))
	}
	if got, want := n.file(1, "stdout.log"), fmt.Sprintf("%s\n%s\nnobody\n", nobody.Uid, nobody.Gid); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	cfg = config(t)
	cfg.JobUser = "no-such-user"
	if err := live(t.Context(), cfg, newBus(t)); err == nil {
		t.Error("an unknown user was accepted")
	}
}
