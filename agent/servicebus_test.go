//go:build unix

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/protocol"
)

// namespace is a Service Bus on loopback with the pool's end of it.
type namespace struct {
	*memBus // keeps the reports
	server  *servicebus.Server
	client  *azservicebus.Client
	sender  *azservicebus.Sender
	cfg     Config
	ctx     context.Context
}

// onServiceBus starts a namespace whose agents have their own narrow rights.
func onServiceBus(tb testing.TB, lock time.Duration) *namespace {
	tb.Helper()
	server, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(tb.TempDir(), "bus.db"),
		Queues: []servicebus.QueueConfig{{Name: "work", RequiresSession: true, LockDuration: lock}, {Name: "node-events"}},
		AccessKeys: []servicebus.AccessKey{{Name: "pool", Key: "cG9vbA==", Send: true, Listen: true, Manage: true},
			{Name: "agent", Key: "YWdlbnQ=", Entities: map[string]servicebus.Right{"work": {Listen: true}, "node-events": {Send: true}}}}})
	if err != nil {
		tb.Fatal(err)
	}
	client, err := azservicebus.NewClientFromConnectionString(server.ConnectionString("pool"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	s := &namespace{memBus: newBus(tb), server: server, client: client, cfg: config(tb), ctx: ctx}
	s.cfg.ServiceBus, s.cfg.KillGrace = server.ConnectionString("agent"), 100*time.Millisecond
	if s.sender, err = client.NewSender("work", nil); err != nil {
		tb.Fatal(err)
	}
	receiver, err := client.NewReceiverForQueue("node-events", nil)
	if err != nil {
		tb.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			got, _ := receiver.ReceiveMessages(ctx, 1, nil)
			for _, m := range got {
				r, err := protocol.DecodeReport(m.Body)
				if err != nil {
					tb.Error(err)
				}
				s.change(func() { s.reports = append(s.reports, r) })
				receiver.CompleteMessage(ctx, m, nil)
			}
		}
	})
	tb.Cleanup(func() {
		end()
		reading.Wait()
		ctx, done := context.WithTimeout(context.Background(), closeTimeout)
		defer done()
		client.Close(ctx)
		server.Close()
	})
	return s
}

// give sends items into the node's session.
func (s *namespace) give(items ...protocol.WorkItem) {
	s.tb.Helper()
	body, err := json.Marshal(protocol.Work{V: protocol.Version, Items: items})
	if err != nil {
		s.tb.Fatal(err)
	}
	session := protocol.SessionID(s.cfg.Pool, s.cfg.VMID)
	if err := s.sender.SendMessage(s.ctx, &azservicebus.Message{Body: body, SessionID: &session}, nil); err != nil {
		s.tb.Fatal(err)
	}
}

// run runs an agent in this process until the test ends.
func (s *namespace) run() {
	s.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, s.cfg) }()
	s.tb.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.tb.Error(err)
			}
		case <-time.After(deadline):
			s.tb.Error("the agent does not end")
		}
	})
}

// child starts an agent as a process of its own.
func (s *namespace) child(log *bytes.Buffer, env ...string) *exec.Cmd {
	s.tb.Helper()
	self, err := os.Executable()
	if err != nil {
		s.tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"AGENT_UNDER_TEST=1", "DSVM_ALLOW_PRIVATE_HOSTS=127.0.0.1", "DSVM_POOL=" + s.cfg.Pool, "DSVM_VMID=" +
		strings.ToUpper(s.cfg.VMID), "DSVM_NODE=" + s.cfg.Node,
		"DSVM_INSTANCE_DIR=" + s.cfg.InstanceDir, "SHARE_PATH=" + s.cfg.Share, "ServiceBusConnection=" + s.cfg.ServiceBus,
		"DSVM_STARTED_WITHIN=20ms", "DSVM_KILL_GRACE=100ms", "DSVM_CPUS=2"}
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() {
		cmd.Process.Kill() // no error that matters: it has ended, or ends now
		cmd.Wait()
	})
	return cmd
}

// boots lists the starts of agents that were reported.
func boots(all []protocol.Report) []string {
	var list []string
	for _, r := range all {
		for _, i := range r.Items {
			if i.Ready != nil {
				list = append(list, i.Ready.Boot)
			}
		}
	}
	return list
}

func TestOnServiceBus(t *testing.T) {
	t.Parallel()
	s := onServiceBus(t, time.Second)
	s.run()
	s.give(assign(1, "echo", "hello"), assign(2, "sleep", "1000"))
	if f := s.finished(1); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
	s.until("the start", started(2))
	// Beyond the lock's time, so that it was renewed at least once.
	pool, err := s.client.AcceptSessionForQueue(s.ctx, "work", protocol.SessionID(s.cfg.Pool, s.cfg.VMID), nil)
	if err == nil {
		t.Error("the session could be taken from a living agent")
		pool.Close(s.ctx)
	}
	timer := time.NewTimer(1500 * time.Millisecond) // of the service, which has no other clock
	<-timer.C
	s.give(cancel(3, 2))
	if f := s.finished(2); f.State != "cancelled" {
		t.Errorf("got %+v", f)
	}
	eventually(t, "the messages to be settled", func() bool {
		active, _, _, dead := s.server.Counts("work")
		return active == 0 && dead == 0
	})
	if got := boots(s.reports); len(got) != 1 {
		t.Errorf("got %d starts reported, want 1", len(got))
	}
}

func TestFenceOnServiceBus(t *testing.T) {
	t.Parallel()
	s := onServiceBus(t, time.Minute)
	session := protocol.SessionID(s.cfg.Pool, s.cfg.VMID)
	pool, err := s.client.AcceptSessionForQueue(s.ctx, "work", session, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.SetSessionState(s.ctx, protocol.FencedState(), nil); err != nil {
		t.Fatal(err)
	}
	s.give(assign(1, "true"))
	var log bytes.Buffer
	agent := s.child(&log)
	if err := pool.Close(s.ctx); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(s.cfg.InstanceDir, "journal")
	eventually(t, "the agent to know", func() bool {
		text, _ := os.ReadFile(journal)
		return strings.Contains(string(text), `"over":`)
	})
	agent.Process.Signal(syscall.SIGTERM)
	if err := agent.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0", err)
	}
	if len(s.reports) > 0 {
		t.Errorf("got %+v, want no report", s.reports)
	}
	if strings.Contains(log.String(), "SharedAccessKey") {
		t.Error("the log holds the connection string")
	}
}

// TestCrash kills an agent with work of every kind and starts another.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := onServiceBus(t, time.Minute)
	var log, log2 bytes.Buffer
	first := s.child(&log)
	s.give(assign(1, "true"),
		script(2, `echo ran >> $DSVM_SHARE/runs
sleep 1000 &
if command -v setsid >/dev/null; then setsid sleep 1000 & fi
touch up
wait`))
	s.finished(1)
	s.until("the start", started(2))
	eventually(t, "the attempt to come up", func() bool {
		_, err := os.Stat(filepath.Join(s.cfg.Share, "jobs/cpu/job-2/1/wd/up"))
		return err == nil
	})
	if runtime.GOOS == "linux" {
		eventually(t, "the attempt's processes", func() bool { return len(strays(s.cfg, 2)) == 3 })
		for _, pid := range strays(s.cfg, 2) {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if bytes.Contains(env, []byte("SharedAccessKey")) {
				t.Error("the connection string is in an attempt's environment")
			}
		}
		if os.Geteuid() != 0 {
			if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", first.Process.Pid)); err == nil {
				t.Error("the agent's environment can be read by its user")
			}
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	s.change(func() { s.reports = nil })
	second := s.child(&log2)
	if f := s.finished(2); f.State != "agentRestarted" || f.ExitCode != 1004 || f.StartedAt.IsZero() {
		t.Errorf("got %+v", f)
	}
	if f := s.finished(1); f.State != "succeeded" {
		t.Errorf("the result that was not acknowledged: got %+v", f)
	}
	if runtime.GOOS == "linux" {
		s.none(2)
	}
	s.give(assign(2, "sh", "-c", "echo ran >> $DSVM_SHARE/runs"), assign(3, "true"))
	s.finished(3)
	if runs, err := os.ReadFile(filepath.Join(s.cfg.Share, "runs")); string(runs) != "ran\n" {
		t.Errorf("runs: got %q, %v; want one", runs, err)
	}
	if got := boots(s.reports); len(got) != 1 {
		t.Errorf("got %d starts reported since, want 1", len(got))
	}
	second.Process.Signal(syscall.SIGTERM)
	if err := second.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0; log:\n%s", err, log2.String())
	}
}

// none checks that no process of an assignment is left.
func (s *namespace) none(id int64) { (&node{memBus: s.memBus, cfg: s.cfg}).none(id) }

// BenchmarkSentToStarted measures from sending an assignment to its process's start.
func BenchmarkSentToStarted(b *testing.B) {
	s := onServiceBus(b, time.Minute)
	s.cfg.StartedWithin = deadline
	s.run()
	var took []time.Duration
	for n := int64(1); n <= int64(b.N); n++ {
		at := time.Now()
		s.give(assign(n, "/bin/true"))
		took = append(took, s.finished(n).StartedAt.Sub(at))
		s.change(func() { s.reports = nil })
	}
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(len(took)), "us-to-start")
}
