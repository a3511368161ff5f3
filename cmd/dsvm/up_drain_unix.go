//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"dsvmpools/agent"
	"dsvmpools/local"
	"dsvmpools/shared/client"
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

// runningJobs asks an instance how many jobs run; -1 = it does not say.
func runningJobs(in *local.Instance) int {
	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	c, err := client.New(in.URL, in.Key)
	if err != nil {
		return -1
	}
	pools, err := c.Pools(ctx)
	if err != nil {
		return -1
	}
	n := 0
	for _, p := range pools {
		n += p.Running
	}
	return n
}

// saysStop is what a stop without a drain says.
func saysStop(running int) string {
	switch {
	case running < 0:
		return "stopping; jobs that run are ended"
	case running == 0:
		return "stopping; no job runs"
	}
	again := "it runs again after the next start, at no cost of a retry"
	if running > 1 {
		again = "they run again after the next start, at no cost of a retry"
	}
	return fmt.Sprintf("stopping ends %s; %s (`dsvm up --drain` lets jobs end first)", jobs(running), again)
}

func jobs(n int) string {
	if n == 1 {
		return "1 job that runs"
	}
	return fmt.Sprintf("%d jobs that run", n)
}

// attempts counts what runs below an instance's folder, by the journals of its nodes.
func attempts(dir string) int {
	all, _ := filepath.Glob(filepath.Join(dir, "instances", "*"))
	n := 0
	for _, node := range all {
		n += agent.CountRunning(node)
	}
	return n
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
		n := attempts(dir)
		if n > 0 {
			quiet = time.Now()
		}
		if time.Since(quiet) >= drainQuiet {
			fmt.Fprintln(out, "dsvm: everything that ran has ended; stopping")
			return nil
		}
		if time.Since(said) >= drainSays {
			said = time.Now()
			fmt.Fprintf(out, "dsvm: waiting for %s\n", jobs(n))
		}
		select {
		case <-tick.C:
		case <-again:
			fmt.Fprintf(out, "dsvm: stopping ends %s\n", jobs(n))
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
	running := runningJobs(in)
	if !drained || running == 0 {
		fmt.Fprintln(out, "dsvm: "+saysStop(running))
		return nil
	}
	select {
	case <-again:
	case <-time.After(drainLook): // it was not a signal that ended the time
	}
	if running > 0 {
		fmt.Fprintf(out, "dsvm: waiting for %s; nothing new starts. Ctrl-C again ends them\n", jobs(running))
	} else {
		fmt.Fprintln(out, "dsvm: waiting for jobs that run; nothing new starts. Ctrl-C again ends them")
	}
	return drain(in, dir, again, out)
}
