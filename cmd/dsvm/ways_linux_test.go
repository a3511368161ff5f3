package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/wire"
)

// waysPool gives each person a node, which is reached past the relay.
const waysPool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},"idleTimeout":"1s",
	"access":["direct"],"sessions":{"resources":{"cpus":2},"jupyter":"off"}}`

// TestPeopleComeDirectly has two people come to their nodes without the relay, by OpenSSH's own
// client, to the end of their sessions.
func TestPeopleComeDirectly(t *testing.T) {
	t.Parallel()
	i, ann, bob := startPeople(t, waysPool)
	i.connect(ann, bob)
	sessions := map[*laptop]wire.Session{ann: i.sessionOf("ann"), bob: i.sessionOf("bob")}
	if sessions[ann].Node == sessions[bob].Node {
		t.Errorf("both are on node %q", sessions[ann].Node)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for l, user := range map[*laptop]string{ann: "ann", bob: "bob"} {
		file := filepath.Join(l.home, "data")
		if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
			t.Fatal(err)
		}
		l.must("", "scp", l.sshArgs(file, "lab.dsvm:data")...)
		l.must(fmt.Sprintf("%s 1048576", user), "ssh", l.sshArgs("lab.dsvm", "echo $(id -un) $(stat -c %s data)")...)
		known, err := os.ReadFile(filepath.Join(l.home, ".dsvm", "lab.dsvm.door"))
		if text := string(known); err != nil || !strings.Contains(text, `"kind":"direct"`) || strings.Contains(text, "wss:") {
			t.Errorf("the ways of %s are %s, %v", user, text, err)
		}
	}
	window := ann.terminal()
	i.until("an open connection", func() bool {
		s := ann.session(sessions[ann].ID)
		return s.Connections["ssh"] == 1 && s.DoorClosed == ""
	})
	if s := ann.session(sessions[ann].ID); s.Relayed != 0 {
		t.Errorf("%d bytes went through the relay", s.Relayed)
	}
	for _, l := range []*laptop{ann, bob} {
		l.must("", os.Args[0], "session", "stop", "lab")
	}
	if err := <-window.gone; err == nil {
		t.Error("ann's window has ended well")
	}
	i.until("a pool without nodes", func() bool { p := i.lab(); return p.Nodes.Total == 0 })
}
