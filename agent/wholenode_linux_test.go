package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/protocol"
	"dsvmpools/shared/sshca"
)

// TestOperators has an operator come to the node as a whole: as the agent's account, with nothing of
// its environment, only with a certificate for this node; and what is left ends with the connection.
func TestOperators(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	n := launched(t, cfg, newBus(t))
	v, id := newVisitor(n), protocol.EntryOfNode(cfg.VMID)
	n.work(script(1, "sleep 600"))
	n.until("the job starts", started(1))
	v.announce(protocol.EntryOfNode("another"), 0, 600)
	v.announce(protocol.EntryOfAttempt("job-1", 1), 1, 600)
	v.announce(id, 0, 600)
	file := filepath.Join(cfg.InstanceDir, "doors", entryPrefix+"0.json")
	eventually(t, "the file for the door", func() bool { return exists(file) })

	c, err := v.comeIn(id)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d\n", os.Geteuid())
	if out, err := output(t, c, `echo $(id -u) $DSVM_INSTANCE_DIR$DSVM_JOB_ID; exit 3`); out != want || codeIn(err) != 3 {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
	for what, try := range map[string]func() (*ssh.Client, error){
		"another node":      func() (*ssh.Client, error) { return v.comeIn(protocol.EntryOfNode("another")) },
		"a session":         func() (*ssh.Client, error) { return v.comeIn(sshca.Principal(cfg.VMID)) },
		"another authority": func() (*ssh.Client, error) { return newVisitor(n).comeIn(id) },
	} {
		if _, err := try(); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("%s: %v", what, err)
		}
	}

	// The connection ends, and with it what was started by it, however that defends itself.
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err == nil {
		err = s.Start("setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 600; done' & wait")
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := make([]byte, 16)
	length, err := out.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	left := "/proc/" + strings.TrimSpace(string(pid[:length]))
	if !exists(left) {
		t.Fatalf("%s is not there", left)
	}
	c.Close()
	eventually(t, "the end of what the operator has started", func() bool { return !exists(left) })
	v.announce(id, 0, 1)
	eventually(t, "the end of a door that nobody needs", func() bool { return !exists(file) })
}
