package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// The test binary is dsvm when it is called with one of its commands, so that
// `up` and all its parts can be killed like the real thing. It is the hook of a
// repository as well.
func TestMain(m *testing.M) {
	if settings := os.Getenv(hookEnv); settings != "" {
		if err := postReceive(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(probeEnv); dir != "" {
		if err := probe(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	os.Exit(m.Run())
}

// machine is a `dsvm up` in a process of its own.
type machine struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	err    bytes.Buffer
	in     local.Description
	client *client.Client
	ctx    context.Context
}

func startMachine(t *testing.T, dir string, args ...string) *machine {
	t.Helper()
	return startMachineWith(t, nil, dir, args...)
}

// startMachineWith is startMachine with more of an environment.
func startMachineWith(t *testing.T, env []string, dir string, args ...string) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	m := &machine{t: t, dir: dir, ctx: ctx, cmd: exec.Command(os.Args[0], append([]string{"up", "--data", dir}, args...)...)}
	m.cmd.Stderr, m.cmd.Env = &m.err, append(os.Environ(), env...)
	os.Remove(filepath.Join(dir, "instance.json"))
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	m.until("the instance's description", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "instance.json"))
		return err == nil && json.Unmarshal(b, &m.in) == nil
	})
	var err error
	if m.client, err = client.New(m.in.URL, m.in.Key); err != nil {
		t.Fatal(err)
	}
	return m
}

// kill ends `dsvm up` as hard as possible and waits for what it ran to follow.
func (m *machine) kill() {
	if m.cmd.ProcessState != nil {
		return
	}
	below := descendants(m.cmd.Process.Pid)
	m.cmd.Process.Kill()
	m.cmd.Wait()
	m.until("the end of everything below the killed instance", func() bool {
		for _, pid := range below {
			if running(pid) {
				return false
			}
		}
		return true
	})
}

// until waits for a condition.
func (m *machine) until(what string, ok func() bool) {
	m.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			m.t.Fatalf("%s did not happen\n%s%s", what, m.err.String(), m.tail())
		}
	}
}

// tail is the end of the logs, for a test that fails.
func (m *machine) tail() string {
	var out strings.Builder
	for _, name := range []string{"servers", "handler"} {
		b, _ := os.ReadFile(filepath.Join(m.dir, "logs", name+".log"))
		fmt.Fprintf(&out, "--- %s\n%s\n", name, b[max(0, len(b)-3000):])
	}
	return out.String()
}

// child finds the process of one of dsvm's parts.
func (m *machine) child(role string) int {
	pid := 0
	m.until("a process that plays "+role, func() bool {
		for _, p := range descendants(m.cmd.Process.Pid) {
			args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
			if err == nil && strings.HasPrefix(string(args), os.Args[0]+"\x00"+role+"\x00") {
				pid = p
				return true
			}
		}
		return false
	})
	return pid
}

func (m *machine) send(messages ...*azservicebus.Message) {
	m.t.Helper()
	bus, err := azservicebus.NewClientFromConnectionString(m.in.ServiceBus, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer bus.Close(m.ctx)
	sender, err := bus.NewSender("jobs", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, msg := range messages {
		if err := sender.SendMessage(m.ctx, msg, nil); err != nil {
			m.t.Fatal(err)
		}
	}
}

// ended lists the jobs that have ended; an instance that cannot be asked now has nothing
// to say.
func (m *machine) ended() []wire.Job {
	jobs, err := m.client.Jobs(m.ctx, client.JobFilter{}, 1000)
	if err != nil {
		return nil
	}
	var ended []wire.Job
	for _, j := range jobs {
		if j.State.Final() {
			ended = append(ended, j)
		}
	}
	return ended
}

// descendants lists the processes below one.
func descendants(root int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := stat(pid); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	for next := children[root]; len(next) > 0; {
		all = append(all, next...)
		var below []int
		for _, pid := range next {
			below = append(below, children[pid]...)
		}
		next = below
	}
	return all
}

// stat is what the kernel says of a process, from its state on.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

func running(pid int) bool {
	f := stat(pid)
	return len(f) > 0 && f[0] != "Z"
}

// attemptsLeft lists processes that were started for a job of this instance.
func (m *machine) attemptsLeft() []int {
	var left []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if bytes.Contains(env, []byte("DSVM_SHARE="+m.dir)) && bytes.Contains(env, []byte("DSVM_JOB_ID=")) && running(pid) {
			left = append(left, pid)
		}
	}
	return left
}

// In the middle of a hundred jobs the handler is killed, then an agent, then
// all of it. Every job ends, none succeeds twice, ledger and rows agree, and no
// process of a dead attempt is left.
func TestKilledInTheMiddle(t *testing.T) {
	const n = 100
	m := startMachine(t, t.TempDir())
	apply(m, `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":3},"idleTimeout":"2s"}`)
	var messages []*azservicebus.Message
	for i := range n {
		messages = append(messages, &azservicebus.Message{Body: fmt.Appendf(nil,
			`{"id":"job-%d","pool":"cpu","command":["sh","-c","sleep 0.3 & wait"],"retry":{"max":20,"backoff":"200ms"}}`, i)})
	}
	m.send(messages...)
	at := func(count int) {
		m.until(fmt.Sprintf("the end of %d jobs", count), func() bool { return len(m.ended()) >= count })
	}
	at(10)
	syscall.Kill(m.child("handler"), syscall.SIGKILL)
	at(30)
	syscall.Kill(m.child("agent"), syscall.SIGKILL)
	at(50)
	ports := m.in
	m.kill()
	if left := m.attemptsLeft(); len(left) > 0 {
		t.Errorf("processes of attempts are left after the kill: %v", left)
	}
	m = startMachine(t, m.dir)
	if m.in != ports {
		t.Errorf("the instance came back at other addresses")
	}
	at(n)
	m.until("an empty pool", func() bool {
		p, err := m.client.Pool(m.ctx, "cpu")
		return err == nil && p.Nodes.Total == 0
	})
	jobs := m.ended()
	started := 0
	for _, j := range jobs {
		successes := 0
		for _, a := range j.Attempts {
			if a.State == job.AttemptSucceeded {
				successes++
			}
			if a.StartedAt != nil {
				started++
			}
		}
		if j.State != job.Succeeded || successes != 1 {
			t.Errorf("job %s is %s with %d successful attempts of %d: %s", j.ID, j.State, successes, len(j.Attempts), j.Reason)
		}
	}
	if len(jobs) != n {
		t.Errorf("got %d jobs, want %d", len(jobs), n)
	}
	if left := m.attemptsLeft(); len(left) > 0 {
		t.Errorf("processes of attempts are left: %v", left)
	}
	var recorded int
	m.until("a ledger that agrees with the rows", func() bool {
		recorded = m.recorded()
		return recorded == started
	})
	t.Logf("%d jobs, %d attempts started, %d recorded", len(jobs), started, recorded)
}

func apply(m *machine, pool string) {
	m.t.Helper()
	if _, err := m.client.Apply(m.ctx, []byte(pool)); err != nil {
		m.t.Fatal(err)
	}
}

// recorded counts the attempts in the usage table.
func (m *machine) recorded() int {
	s, err := store.Open(store.Config{ConnectionString: m.in.Tables})
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	n := 0
	now := time.Now().UTC()
	err = s.Usage(m.ctx, now.Add(-time.Hour), now.Add(time.Hour), func(row usage.Row) error {
		if row.Kind == usage.KindAttempt {
			n++
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}
