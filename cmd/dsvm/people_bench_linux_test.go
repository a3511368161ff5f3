package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/wire"
)

// BenchmarkPeople measures what a person waits for, with the system's own ssh, and a node that
// boots in 50 ms; docs/performance.md has the figures. Run it with -benchtime 1x.
//
// In ms: from `dsvm connect` until capacity is asked for; from a booted node until a shell has
// answered; `ssh lab.dsvm true` of a session that is ready, by the relay: the median, and 95 of
// 100 of sixty; and the same over a connection that is open already. In MB: the largest size of
// the door's process.
func BenchmarkPeople(b *testing.B) {
	const logins = 60
	for range b.N {
		i, ann, _ := startPeople(b, strings.Replace(peoplePool, `"idleAfter":"3s"`, `"idleAfter":"1h"`, 1))
		begin := time.Now()
		connected := make(chan error, 1)
		go func() {
			_, err := ann.run(os.Args[0], "connect", "lab")
			connected <- err
		}()
		i.until("capacity", func() bool {
			i.mu.Lock()
			defer i.mu.Unlock()
			return len(i.asked) > 0
		})
		b.ReportMetric(ms(time.Since(begin)), "ms/asked")
		i.until("a node that has booted", func() bool { n := i.lab().Nodes; return n.Ready+n.Busy > 0 })
		booted := time.Now()
		if err := <-connected; err != nil {
			b.Fatal(err)
		}
		i.until("the session", func() bool { return i.sessionOf("ann").State == wire.SessionReady })
		ann.must("in", "ssh", ann.sshArgs("lab.dsvm", "echo in")...)
		b.ReportMetric(ms(time.Since(booted)), "ms/shell")

		login := func(args ...string) []time.Duration {
			var took []time.Duration
			for range logins {
				from := time.Now()
				ann.must("", "ssh", ann.sshArgs(append(args, "lab.dsvm", "true")...)...)
				took = append(took, time.Since(from))
			}
			slices.Sort(took)
			return took
		}
		took := login()
		b.ReportMetric(ms(took[logins/2]), "ms/login-p50")
		b.ReportMetric(ms(took[logins*95/100]), "ms/login-p95")
		over := []string{"-o", "ControlPath=" + ann.home + "/open", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"}
		ann.must("", "ssh", ann.sshArgs(append(over, "lab.dsvm", "true")...)...)
		took = login(over...)
		b.ReportMetric(ms(took[logins/2]), "ms/again-p50")
		for _, pid := range i.processesOf("dsvm-door") {
			b.ReportMetric(float64(procNumber(pid, "status", "VmHWM:"))*1024/1e6, "MB/door")
		}
		_ = exec.Command("ssh", ann.sshArgs(append(over, "-O", "exit", "lab.dsvm")...)...).Run()
	}
}
