package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
)

// TestKilledEntries kills the door, and then the agent, with SIGKILL while a shell in a job, a port of
// it and a shell on the node are open, each below programs that hear no HUP and no TERM. The people are
// told and do not wait, what they ran is gone, and they come in again. The door takes nothing of
// the job with it; the agent ends it, as everything that it runs, and it begins again.
func TestKilledEntries(t *testing.T) {
	onlyLong(t)
	i, all := startCrowd(t, `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1h"}`, []string{"ops", "ann"})
	i.long(6 * time.Minute)
	ops, ann := all[0], all[1]
	there := freePort(t)
	ann.startJob("one", "echo $$ >pid; exec python3 -m http.server --bind 127.0.0.1 "+there)
	first := i.processOfJob("one")
	for _, victim := range []string{"dsvm-door", "agent"} {
		t.Run(victim, func(t *testing.T) { i.killWithPeopleInside(t, victim, ops, ann, there) })
		if t.Failed() {
			return
		}
		j, err := i.client.Job(i.ctx, "one")
		if err != nil {
			t.Fatal(err)
		}
		switch now := i.processOfJob("one"); {
		case victim == "dsvm-door" && (now != first || len(j.Attempts) != 1):
			t.Errorf("the job runs as process %d in %d attempts, and was %d", now, len(j.Attempts), first)
		case victim == "agent" && (now == first || running(first) || j.State != job.Running):
			t.Errorf("the job is %s, as process %d, and was %d", j.State, now, first)
		}
	}
}

// processOfJob waits until a job runs, and returns its first process.
func (i *instance) processOfJob(id string) (pid int) {
	i.t.Helper()
	i.until("a process of job "+id, func() bool {
		j, err := i.client.Job(i.ctx, id)
		if err != nil || j.State != job.Running {
			return false
		}
		text, _ := os.ReadFile(filepath.Join(i.Share, "jobs", "cpu", id, strconv.Itoa(len(j.Attempts)), "wd", "pid"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0 && running(pid)
	})
	return pid
}

// killWithPeopleInside has three people inside while a part of the node is killed.
func (i *instance) killWithPeopleInside(t *testing.T, victim string, ops, ann *laptop, there string) {
	nodes, err := i.client.Nodes(i.ctx, "cpu")
	if err != nil || len(nodes) != 1 {
		t.Fatalf("got %+v, %v", nodes, err)
	}
	here := freePort(t)
	inJob := ann.open("job", "exec", "-t", "one")
	node := ops.open("node", "ssh", "-t", nodes[0].Name, "--reason", "look")
	port := ann.open("job", "forward", "one", here+":"+there)
	var shells, children []int
	for _, w := range []*openWay{inJob, node} {
		shell, child := w.begin(t)
		shells, children = append(shells, shell), append(children, child)
	}
	i.until("the port of the job", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", here))
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		text, _ := io.ReadAll(c)
		return strings.HasPrefix(string(text), "HTTP/1.0 200")
	})
	if !i.killPart(victim) {
		t.Fatalf("there is no %s to kill", victim)
	}
	for _, w := range []*openWay{inJob, node, port} {
		select {
		case err := <-w.gone:
			if want := map[bool]string{true: "the connection to node", false: "job one"}[w == node]; exitCode(err) != codeBroken ||
				!strings.Contains(w.String(), want) {
				t.Errorf("%v ended as %v, and %q is not in:\n%s", w.args, err, want, w)
			}
		case <-i.ctx.Done():
			t.Fatalf("%v does not end:\n%s", w.args, w)
		}
	}
	// What is in the job's control group may stay with the job, as what nohup starts does.
	i.until("the end of the shells, and of what ran on the node", func() bool {
		return !running(shells[0]) && !running(shells[1]) && !running(children[1])
	})
	if victim == "agent" {
		i.until("the end of what ran in the job", func() bool { return !running(children[0]) })
	}
	for name, again := range map[string]func() (string, error){
		"the job": func() (string, error) { return ann.run(os.Args[0], "job", "exec", "one", "--", "echo", "again") },
		"the node": func() (string, error) {
			return ops.run(os.Args[0], "node", "ssh", nodes[0].Name, "--reason", "x", "--", "echo", "again")
		},
	} {
		var out string
		i.until("a way in to "+name, func() bool {
			var err error
			out, err = again()
			return err == nil
		})
		if !strings.Contains(out, "again") {
			t.Errorf("%s says %q", name, out)
		}
	}
}

// codeBroken is the exit code of ssh when its connection ends.
const codeBroken = 255

// openWay is a program of a person's that stays open.
type openWay struct {
	*screen
	args []string
	keys io.Writer
	gone chan error
	l    *laptop
}

func (l *laptop) open(args ...string) *openWay {
	l.t.Helper()
	c, out := l.command(os.Args[0], args...)
	keys, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	w := &openWay{screen: out, args: args, keys: keys, gone: make(chan error, 1), l: l}
	go func() { w.gone <- c.Wait() }()
	return w
}

// begin has the shell of a window, and a program that it starts in a session of its own, hear
// neither HUP nor TERM, and returns their numbers.
func (w *openWay) begin(t *testing.T) (shell, child int) {
	t.Helper()
	fmt.Fprintln(w.keys, `trap '' HUP TERM; export SHELL_PID=$$; setsid sh -c 'echo started $SHELL_PID $$; exec sleep 4321' &`)
	started := regexp.MustCompile(`started (\d+) (\d+)`)
	var m []string
	w.l.until(fmt.Sprint("a shell of ", w.args), func() bool { m = started.FindStringSubmatch(w.String()); return m != nil })
	shell, _ = strconv.Atoi(m[1])
	child, _ = strconv.Atoi(m[2])
	return shell, child
}
