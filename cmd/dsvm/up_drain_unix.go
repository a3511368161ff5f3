//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dsvmpools/agent"
	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/pool"
)

const (
	// countTime bounds how long a stop waits for the number of running jobs.
	countTime = 3 * time.Second
	// drainLook is how often a drain looks whether anything still runs.
	drainLook = 200 * time.Millisecond
	// drainQuiet is how long nothing may run before a drain is over: an assignment that
	// was on its way when it began is started within that time.
	drainQuiet = 2 * time.Second
	// drainSays is how often a drain says how many still run.
	drainSays = time.Minute
)

// work is what runs in an instance.
type work struct{ jobs, sessions int }

// askWork asks an instance what runs; false = it does not say.
func askWork(in *local.Instance) (w work, isKnown bool) {
	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	c, err := client.New(in.URL, in.Key)
	if err != nil {
		return w, false
	}
	pools, err := c.Pools(ctx)
	if err != nil {
		return w, false
	}
	for _, p := range pools {
		if p.Kind == pool.KindInteractive {
			w.sessions += p.Running
		} else {
			w.jobs += p.Running
		}
	}
	return w, true
}

// saysStop is what a stop without a drain says.
func saysStop(w work, isKnown bool) string {
	switch {
	case !isKnown:
		return "stopping; what runs is ended"
	case w == work{}:
		return "stopping; nothing runs"
	case w.jobs == 0:
		return "stopping ends " + w.String()
	}
	again := "the job runs again after the next start, at no cost of a retry"
	if w.jobs > 1 {
		again = "the jobs run again after the next start, at no cost of a retry"
	}
	return fmt.Sprintf("stopping ends %s; %s (`dsvm up --drain` lets jobs end first)", w, again)
}

// String names what runs, with its number.
func (w work) String() string {
	var all []string
	for _, part := range []struct {
		n    int
		noun string
	}{{w.jobs, "job"}, {w.sessions, "session"}} {
		switch {
		case part.n == 1:
			all = append(all, "1 "+part.noun+" that runs")
		case part.n > 1:
			all = append(all, fmt.Sprintf("%d %ss that run", part.n, part.noun))
		}
	}
	return strings.Join(all, " and ")
}

// countWork counts what runs below an instance's folder, by the journals of its nodes.
func countWork(dir string) (w work) {
	all, _ := filepath.Glob(filepath.Join(dir, "instances", "*"))
	for _, node := range all {
		jobs, sessions := agent.CountRunning(node)
		w.jobs += jobs
		w.sessions += sessions
	}
	return w
}

// drain lets what runs end and starts nothing new: without the handler nobody places a
// job, and the nodes go on. What they report waits on its queue for the next start. Who
// asks once more ends the rest.
func drain(in *local.Instance, dir string, again <-chan os.Signal, out io.Writer) error {
	if err := in.StopHost(); err != nil {
		return err
	}
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	quiet, said := time.Now(), time.Now()
	for {
		now := countWork(dir)
		if now != (work{}) {
			quiet = time.Now()
		}
		if time.Since(quiet) >= drainQuiet {
			fmt.Fprintln(out, "dsvm: everything that ran has ended; stopping")
			return nil
		}
		if time.Since(said) >= drainSays {
			said = time.Now()
			fmt.Fprintf(out, "dsvm: waiting for %s\n", now)
		}
		select {
		case <-tick.C:
		case <-again:
			fmt.Fprintf(out, "dsvm: stopping ends %s\n", now)
			return nil
		}
	}
}

// untilStopped waits for the end of an instance's time, and for what runs when it is to
// be drained.
func untilStopped(ctx context.Context, in *local.Instance, dir string, drained bool, out io.Writer) error {
	again := make(chan os.Signal, 2) // the first Ctrl-C comes here too
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	<-ctx.Done()
	running, isKnown := askWork(in)
	if !drained || isKnown && running == (work{}) {
		fmt.Fprintln(out, "dsvm: "+saysStop(running, isKnown))
		return nil
	}
	select {
	case <-again:
	case <-time.After(drainLook): // it was not a signal that ended the time
	}
	if isKnown {
		fmt.Fprintf(out, "dsvm: waiting for %s; nothing new starts. Ctrl-C again ends them\n", running)
	} else {
		fmt.Fprintln(out, "dsvm: waiting for what runs; nothing new starts. Ctrl-C again ends it")
	}
	return drain(in, dir, again, out)
}
