//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// benchPeer is the rate of another scheduler on this machine, with the same job and as
// many side by side.
type benchPeer struct {
	Name          string  `json:"name"`
	JobsPerSecond float64 `json:"jobsPerSecond"`
	CPUMs         float64 `json:"cpuMs,omitempty"` // per job, of all its processes and the jobs'; 0 = not known
}

// absentPeer is a scheduler that was not measured.
type absentPeer struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // and how to have it measured
}

// peerTime bounds a measurement of a peer.
const peerTime = 10 * time.Minute

// Numbers of jobs that are enough for the rate of a peer.
const (
	peerJobs  = 20_000
	slurmJobs = 400
	slowJobs  = 2000 // of jobs that take a tenth of a second
)

// Why a peer is absent, and how to get it.
const (
	noHyperQueue = "not found; put its program `hq` on the path (github.com/It4innovations/hyperqueue, releases), or `pip install hyperqueue`"
	noSlurm      = "not found; `sbatch` is not on the path (Debian: `apt install slurm-wlm`, then a `slurm.conf` of one node)"
	silentSlurm  = "its controller does not answer; start `slurmctld` and `slurmd`"
)

// peerRun measures the other schedulers, one after the other.
type peerRun struct {
	dir     string
	command []string
	jobs    int
	say     func(string)

	all    []benchPeer
	absent []absentPeer
}

// runPeers measures the schedulers that are on the path: HyperQueue as hq, or else as the
// package of Python; Slurm if its daemon answers. Of the others it says why they were not
// measured. An error is that of ctx.
func runPeers(ctx context.Context, o benchOptions, dir string, say func(string)) ([]benchPeer, []absentPeer, error) {
	r := &peerRun{dir: dir, command: workloads[o.job].command, jobs: min(max(o.jobs, benchLeastBare), peerJobs), say: say}
	if o.job == "sleep" {
		r.jobs = min(r.jobs, slowJobs)
	}
	r.runHQ(ctx)
	r.runSlurm(ctx)
	return r.all, r.absent, ctx.Err()
}

func (r *peerRun) runHQ(ctx context.Context) {
	title, measure := "HyperQueue with journal", func(ctx context.Context, dir string, files bool) (benchPeer, error) {
		return measureHQ(ctx, dir, r.command, r.jobs, files)
	}
	if _, err := exec.LookPath("hq"); err != nil {
		python, err := exec.LookPath("python3")
		if err != nil || exec.CommandContext(ctx, python, "-c", "import hyperqueue").Run() != nil {
			r.absent = append(r.absent, absentPeer{"HyperQueue", noHyperQueue})
			return
		}
		title, measure = "HyperQueue of Python, no journal", func(ctx context.Context, dir string, files bool) (benchPeer, error) {
			return measurePythonHQ(ctx, dir, python, r.command, r.jobs, files)
		}
	}
	for _, files := range []bool{true, false} {
		r.add(ctx, title+filesTitle(files), func(ctx context.Context) (benchPeer, error) {
			return measure(ctx, filepath.Join(r.dir, "hq"+strconv.FormatBool(files)), files)
		})
	}
}

func (r *peerRun) runSlurm(ctx context.Context) {
	const name = "Slurm"
	switch _, err := exec.LookPath("sbatch"); {
	case err != nil:
		r.absent = append(r.absent, absentPeer{name, noSlurm})
	case exec.CommandContext(ctx, "scontrol", "ping").Run() != nil:
		r.absent = append(r.absent, absentPeer{name, silentSlurm})
	default:
		r.add(ctx, name, func(ctx context.Context) (benchPeer, error) {
			return measureSlurm(ctx, r.command, min(r.jobs, slurmJobs))
		})
	}
}

// add measures a peer. One that fails is absent: it is no reason to measure nothing else.
func (r *peerRun) add(ctx context.Context, name string, measure func(context.Context) (benchPeer, error)) {
	if ctx.Err() != nil {
		return
	}
	r.say(name)
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	p, err := measure(ctx)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.absent = append(r.absent, absentPeer{name, fmt.Sprintf("its jobs have not ended within %s", peerTime)})
	case err != nil:
		r.absent = append(r.absent, absentPeer{name, "it failed: " + strings.TrimSpace(err.Error())})
	default:
		p.Name = name
		r.all = append(r.all, p)
	}
}

func filesTitle(files bool) string {
	if files {
		return ", files of stdout and stderr"
	}
	return ", no files"
}

// measureHQ runs n jobs as one array on a server and a worker of HyperQueue with a
// journal.
func measureHQ(ctx context.Context, dir string, command []string, n int, files bool) (p benchPeer, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return p, err
	}
	hq := func(arguments ...string) *exec.Cmd {
		c := exec.CommandContext(ctx, "hq", append([]string{"--server-dir", filepath.Join(dir, "server")}, arguments...)...)
		c.Dir = dir
		return c
	}
	before := childrenTime()
	endServer, err := startProcess(hq("server", "start", "--journal", filepath.Join(dir, "journal")))
	if err != nil {
		return p, err
	}
	defer endServer(false)
	if err := retry(ctx, func() error { return hq("server", "info").Run() }); err != nil {
		return p, err
	}
	endWorker, err := startProcess(hq("worker", "start", "--cpus", strconv.Itoa(benchParallel)))
	if err != nil {
		return p, err
	}
	defer endWorker(false)
	if err := retry(ctx, func() error {
		return hq("submit", "--wait", "--stdout", "none", "--stderr", "none", "--", "/bin/true").Run()
	}); err != nil {
		return p, err
	}
	submit := []string{"submit", "--wait", "--array", fmt.Sprintf("1-%d", n)}
	if !files {
		submit = append(submit, "--stdout", "none", "--stderr", "none")
	}
	begin := time.Now()
	if out, err := hq(append(append(submit, "--"), command...)...).CombinedOutput(); err != nil {
		return p, fmt.Errorf("hq submit: %w: %s", err, out)
	}
	p.JobsPerSecond = float64(n) / time.Since(begin).Seconds()
	if err := hq("server", "stop").Run(); err != nil {
		return p, err
	}
	endServer(true)
	endWorker(false) // it may wait for another server
	p.CPUMs = ms(childrenTime()-before) / float64(n)
	return p, nil
}

// startProcess starts a program. end waits for its end, which it brings about unless the
// program ends by itself.
func startProcess(c *exec.Cmd) (end func(byItself bool), err error) {
	if err := c.Start(); err != nil {
		return nil, err
	}
	var once sync.Once
	return func(byItself bool) {
		once.Do(func() {
			if !byItself {
				_ = c.Process.Kill() // it may have ended
			}
			_ = c.Wait() // how it ended does not matter
		})
	}, nil
}

// pythonHQ runs a server and a worker of HyperQueue in one process, and prints in its last
// line the seconds that the jobs take, by the clock and of processor. Its package keeps no
// journal.
const pythonHQ = `
import os, sys, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
n, files, slots, command = int(sys.argv[1]), sys.argv[2] == "true", int(sys.argv[3]), sys.argv[4:]
with LocalCluster(worker_config=WorkerConfig(cores=slots)) as cluster:
    client, job = cluster.client(), Job()
    for _ in range(n):
        if files:
            job.program(command)
        else:
            job.program(command, stdout=None, stderr=None)
    begin, cpu = time.time(), sum(os.times()[:4])
    done = client.wait_for_jobs([client.submit(job)])
    print(time.time() - begin, sum(os.times()[:4]) - cpu if done else "failed")
`

// measurePythonHQ runs n jobs on HyperQueue's package for Python.
func measurePythonHQ(ctx context.Context, dir, python string, command []string, n int, files bool) (p benchPeer, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return p, err
	}
	arguments := []string{"-c", pythonHQ, strconv.Itoa(n), strconv.FormatBool(files), strconv.Itoa(benchParallel)}
	c := exec.CommandContext(ctx, python, append(arguments, command...)...)
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		return p, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var took, cpu float64
	if _, err := fmt.Sscan(lines[len(lines)-1], &took, &cpu); err != nil || took <= 0 {
		return p, fmt.Errorf("its jobs ended with %q", out)
	}
	return benchPeer{JobsPerSecond: float64(n) / took, CPUMs: cpu * 1000 / float64(n)}, nil
}

// measureSlurm runs n jobs as one array.
func measureSlurm(ctx context.Context, command []string, n int) (p benchPeer, err error) {
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "sbatch", "--wait", fmt.Sprintf("--array=1-%d%%%d", n, benchParallel),
		"--output=/dev/null", "--wrap", strings.Join(quoted, " ")).CombinedOutput()
	if err != nil {
		return p, fmt.Errorf("sbatch: %w: %s", err, out)
	}
	p.JobsPerSecond = float64(n) / time.Since(begin).Seconds()
	return p, nil
}

// retry tries something until it succeeds: a program that has just started answers a
// moment later.
func retry(ctx context.Context, try func() error) error {
	const pause, tries = 50 * time.Millisecond, 200
	for i := 0; ; i++ {
		err := try()
		if err == nil || i == tries {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// childrenTime is the processor time of children that have ended, and of their own.
func childrenTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
