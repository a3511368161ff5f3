package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// The tests of this file take minutes: they run with DSVM_LONG=1, as .ci/long does. Tests of some
// seconds each that look at the same in other ways are long, too, and .ci/run runs them.

// long gives a test more time than others have.
func (i *instance) long(limit time.Duration) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	i.t.Cleanup(cancel)
	i.ctx = ctx
}

func onlyLong(t *testing.T) {
	t.Helper()
	if os.Getenv("DSVM_LONG") == "" {
		t.Skip("takes long; DSVM_LONG=1 runs it")
	}
}

// TestCrowd has thirty people come from one address at once to a pool of at most three nodes
// with ten places each: nobody waits, no node has more than its places, everybody is on the own
// account, and they all leave no node behind.
func TestCrowd(t *testing.T) {
	onlyLong(t)
	const people, nodes, places = 30, 3, 10
	var names []string
	for k := range people {
		names = append(names, fmt.Sprintf("user%02d", k))
	}
	i, all := startCrowd(t, `{"name":"lab","kind":"interactive","sizes":["Standard_D16s_v5"],"nodes":{"max":3},"idleTimeout":"1s",
		"limits":{"team":{"vision":{"jobs":30}}},"sessions":{"resources":{"cpus":1,"memory":"6Gi"},"jupyter":"off","idleAfter":"1h"}}`, names)
	i.long(10 * time.Minute)
	i.connect(all...)
	on := map[string]int{}
	uids := map[int]string{}
	for _, name := range names {
		s := i.sessionOf(name)
		on[s.Node]++
		if other := uids[s.UID]; other != "" || s.State != wire.SessionReady {
			t.Errorf("the session of %s is %s with the uid %d, which %q has", name, s.State, s.UID, other)
		}
		uids[s.UID] = name
	}
	if len(on) != nodes {
		t.Errorf("people are on %d nodes, want %d", len(on), nodes)
	}
	for node, n := range on {
		if n > places {
			t.Errorf("node %s has %d people and %d places", node, n, places)
		}
	}
	var inside sync.WaitGroup
	for k, l := range all {
		inside.Go(func() {
			out, err := l.run("ssh", l.sshArgs("lab.dsvm", "id -un; echo done")...)
			if err != nil || !strings.Contains(out, names[k]+"\ndone") {
				t.Errorf("%s: %v\n%s", l.login, err, out)
			}
		})
	}
	inside.Wait()
	for _, l := range all {
		inside.Go(func() { l.must("", os.Args[0], "session", "stop", "lab") })
	}
	inside.Wait()
	i.until("a pool without nodes", func() bool { p := i.lab(); return p.Nodes.Total == 0 && p.Wanted == 0 })
	i.mu.Lock()
	defer i.mu.Unlock()
	if most := slices.Max(i.asked); most != nodes {
		t.Errorf("%d nodes were asked for, want %d", most, nodes)
	}
}

// TestFriday has an editor's open window connect again and again after its session has ended for
// idleness: for DSVM_FRIDAY, which is a minute by itself, the pool has no node and asks for none.
func TestFriday(t *testing.T) {
	onlyLong(t)
	lasts, err := time.ParseDuration(os.Getenv("DSVM_FRIDAY"))
	if err != nil {
		lasts = time.Minute
	}
	i, all := startCrowd(t, strings.Replace(peoplePool, `"warning":"4s"`, `"warning":"1s"`, 1), []string{"ann"})
	i.long(lasts + 3*time.Minute)
	ann := all[0]
	i.connect(ann)
	id := i.sessionOf("ann").ID
	i.until("the end for idleness, and a pool without nodes", func() bool {
		p := i.lab()
		return ann.session(id).State == wire.SessionEnded && p.Nodes.Total == 0 && p.Wanted == 0
	})
	if s := ann.session(id); s.End == nil || s.End.By != pool.EndIdle {
		t.Fatalf("the session ended as %+v", s.End)
	}
	i.mu.Lock()
	before := len(i.asked)
	i.mu.Unlock()
	tries := 0
	for begin := time.Now(); time.Since(begin) < lasts; tries++ {
		// The very form of an editor: no terminal, a limit of its own for the connection.
		out, err := ann.run("ssh", ann.sshArgs("-T", "-D", freePort(t), "-o", "ConnectTimeout=15", "lab.dsvm", "bash")...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(out, "nobody had used it") && !strings.Contains(out, "cannot be reached") {
			t.Fatalf("the window has come in again, or is not told why not: %v\n%s", err, out)
		}
		if p := i.lab(); p.Nodes.Total != 0 || p.Wanted != 0 || p.Queued != 0 {
			t.Fatalf("after %d tries the pool is %+v", tries, p)
		}
		select { // an editor waits between its tries, too
		case <-time.After(min(lasts/20, 5*time.Second)):
		case <-i.ctx.Done():
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if after := append(i.asked[before:], 0); slices.Max(after) > 0 || tries < 2 {
		t.Errorf("%d tries have asked for %v nodes", tries, after)
	}
	t.Logf("%d tries in %s, no node", tries, lasts)
}

// TestKilledPeople kills the handler, an agent or a door with SIGKILL at each step of a session,
// one kind in each round, and at last all of them: the session, its node and what runs in it stay,
// and at the end there is nothing.
func TestKilledPeople(t *testing.T) {
	onlyLong(t)
	for _, victims := range [][]string{{"handler"}, {"agent"}, {"dsvm-door"}, {"handler", "agent", "dsvm-door"}} {
		t.Run(strings.Join(victims, " and "), func(t *testing.T) { killAtEachStep(t, victims) })
	}
}

func killAtEachStep(t *testing.T, victims []string) {
	i, all := startCrowd(t, strings.Replace(peoplePool, `"warning":"4s"`, `"warning":"30s"`, 1), []string{"ann"})
	i.long(5 * time.Minute)
	ann := all[0]
	killed := map[string]int{}
	kill := func(step string) {
		for _, role := range victims {
			if i.killPart(role) {
				killed[role]++
			}
		}
		t.Logf("killed at: %s", step)
	}
	// again runs something until it is well: who kills a handler breaks requests.
	again := func(what string, do func() (string, error)) (out string) {
		t.Helper()
		i.until(what, func() bool {
			var err error
			out, err = do()
			return err == nil
		})
		return out
	}
	session := func() *wire.Session {
		found, err := i.client.Sessions(i.ctx, "lab", "ann")
		if err != nil || len(found) == 0 {
			return nil
		}
		return &found[0]
	}

	connected := make(chan struct{})
	go func() {
		defer close(connected)
		for i.ctx.Err() == nil {
			if out, err := ann.run(os.Args[0], "connect", "lab"); err == nil && strings.Contains(out, "You are on node") {
				return
			}
		}
	}()
	i.until("that the session is asked for", func() bool { return session() != nil })
	kill("asked for")
	first := session
	i.until("a node that boots", func() bool { p, err := i.client.Pool(i.ctx, "lab"); return err == nil && p.Nodes.Total > 0 })
	kill("a node boots")
	i.until("a start", func() bool {
		s := session()
		return s != nil && (s.State == wire.SessionStarting || s.State == wire.SessionReady)
	})
	kill("it starts")
	<-connected
	i.until("the session", func() bool { return first() != nil && first().State == wire.SessionReady })
	was := *session()
	kill("it is ready")

	// Something runs in it to the end, through all that follows.
	again("a process in the session", func() (string, error) {
		return ann.run("ssh", ann.sshArgs("lab.dsvm", "test -s pid && kill -0 $(cat pid) || { setsid nohup sleep 600 >/dev/null 2>&1 </dev/null & echo $! >pid; }")...)
	})
	window, keys := ann.command("ssh", ann.sshArgs("-tt", "lab.dsvm")...)
	if err := window.Start(); err != nil {
		t.Fatal(err)
	}
	i.until("the greeting in a window, or the end of it", func() bool { return keys.String() != "" })
	kill("a window is open")
	_ = window.Process.Kill()
	_ = window.Wait()
	i.until("a warning", func() bool { s := session(); return s != nil && s.EndsAt != nil })
	kill("it is warned")
	again("an answer to extend", func() (string, error) { return ann.run(os.Args[0], "session", "extend", "lab", "1h") })
	kill("it is kept")
	i.until("the warning's end", func() bool { s := session(); return s != nil && s.EndsAt == nil })
	said := again("the same process in the same session", func() (string, error) {
		return ann.run("ssh", ann.sshArgs("lab.dsvm", "kill -0 $(cat pid) && echo process $(cat pid)")...)
	})
	_, number, _ := strings.Cut(strings.TrimSpace(said), "process ")
	inside, err := strconv.Atoi(number)
	if err != nil || !running(inside) {
		t.Fatalf("the process in the session is not seen: %v\n%s", err, said)
	}
	if s := session(); s == nil || s.ID != was.ID || s.VMID != was.VMID || s.UID != was.UID {
		t.Errorf("the session is %+v, and was %+v", s, was)
	}
	again("an answer to stop", func() (string, error) {
		out, err := ann.run(os.Args[0], "session", "stop", "lab")
		if err != nil && session() == nil {
			err = nil
		}
		return out, err
	})
	kill("it is to end")
	i.until("a pool without sessions and nodes", func() bool {
		p, err := i.client.Pool(i.ctx, "lab")
		return err == nil && session() == nil && p.Nodes.Total == 0 && p.Wanted == 0
	})
	i.until("the end of the process in the session", func() bool { return !running(inside) })
	t.Logf("killed: %v", killed)
	for _, role := range victims {
		if killed[role] < 3 {
			t.Errorf("%s was killed %d times", role, killed[role])
		}
	}
}

// killPart kills the handler of the instance, or a part of its nodes, and reports whether there
// was one.
func (i *instance) killPart(role string) bool {
	killed := false
	for _, pid := range i.processesOf(role) {
		killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
	}
	return killed
}

// processesOf are the processes that play a part for the instance or for one of its nodes.
func (i *instance) processesOf(role string) []int {
	mine := [][]byte{[]byte("SHARE_PATH=" + i.Share + "\x00")}
	for _, one := range i.Compute.Instances() {
		mine = append(mine, []byte("DSVM_VMID="+one.VMID+"\x00"))
	}
	var all []int
	for pid, args := range commandLines() {
		if !strings.HasPrefix(args, os.Args[0]+"\x00"+role+"\x00") {
			continue
		}
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if slices.ContainsFunc(mine, func(v []byte) bool { return bytes.Contains(env, v) }) {
			all = append(all, pid)
		}
	}
	return all
}

// commandLines are those of all processes.
func commandLines() map[int]string {
	all := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(args) > 0 {
				all[pid] = string(args)
			}
		}
	}
	return all
}
