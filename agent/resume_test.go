//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// TestResume starts an agent on journals that earlier ones left.
func TestResume(t *testing.T) {
	t.Parallel()
	work := assign(1, "sh", "-c", "echo ran").Assign
	given := record{Seen: 1, N: 1, Assign: work}
	tests := []struct {
		name    string
		records func(Config) []record
		torn    string
		state   string // of assignment 1; "" = it is not known
		runs    bool
	}{
		{"not started", func(c Config) []record { return []record{mine(c), given} }, "", "succeeded", true},
		{"not started as it seems, torn line", func(c Config) []record { return []record{mine(c), given} }, "1234abcd {\"seen\":9",
			"agentRestarted", false},
		{"perhaps started", func(c Config) []record { return []record{mine(c), given, {N: 1, Starting: true}} }, "", "agentRestarted", false},
		{"started", func(c Config) []record {
			return []record{mine(c), given, {N: 1, Starting: true}, {N: 1, Started: &process.Process{PID: 1 << 22, Birth: "1"}}}
		}, "", "agentRestarted", false},
		{"a number that is somebody else's now", func(c Config) []record {
			return []record{mine(c), given, {N: 1, Started: &process.Process{PID: os.Getpid(), Birth: "1"}}}
		}, "", "agentRestarted", false},
		{"before the machine started", func(c Config) []record {
			return []record{{Node: protocol.SessionID(c.Pool, c.VMID), Machine: "another"}, given}
		}, "", "agentRestarted", false},
		{"finished", func(c Config) []record {
			return []record{mine(c), given, {Finished: &protocol.Finished{N: 1, State: "failed", ExitCode: 3}}}
		}, "", "failed", false},
		{"another node's", func(c Config) []record { return []record{{Node: "cpu.another", Machine: machineBoot()}, given} }, "", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			if err := os.MkdirAll(filepath.Join(cfg.InstanceDir, "attempts", "1"), 0o755); err != nil {
				t.Fatal(err)
			}
			file := append(lines(test.records(cfg)...), test.torn...)
			if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), file, 0o600); err != nil {
				t.Fatal(err)
			}
			n := launched(t, cfg, newBus(t))
			if test.state != "" {
				if f := n.finished(1); f.State != test.state {
					t.Errorf("got %+v, want %s", f, test.state)
				}
			}
			n.counted(0)
			n.work(assign(1, "sh", "-c", "echo again"), assign(2, "true"))
			n.finished(2)
			out, _ := os.ReadFile(filepath.Join(cfg.Share, "jobs/cpu/job-1/1/stdout.log"))
			want := ""
			switch {
			case test.runs:
				want = "ran\n"
			case test.state == "":
				n.finished(1)
				out, want = []byte(n.file(1, "stdout.log")), "again\n"
			}
			if string(out) != want {
				t.Errorf("output: got %q, want %q", out, want)
			}
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			journal, err := os.ReadFile(filepath.Join(cfg.InstanceDir, "journal"))
			if err != nil || strings.Contains(string(journal), "\"seen\":9}") {
				t.Errorf("the torn line was kept: %s, %v", journal, err)
			}
		})
	}
}

func mine(c Config) record {
	return record{Node: protocol.SessionID(c.Pool, c.VMID), Machine: machineBoot(), Counter: new(int64)}
}
