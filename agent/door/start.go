package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"dsvmpools/agent/process"
)

// role is the argument by which a program plays the door.
const role = "dsvm-door"

// ErrLives is the error of a door where there is one.
var ErrLives = errors.New("the door of this folder lives already")

// init plays the door before anything else of the program is set up, if it was started as one: so
// the agent's program and dsvm both can.
func init() {
	const args = 3
	if len(os.Args) != args || os.Args[1] != role {
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, os.Args[2], log)
	stop()
	switch {
	case errors.Is(err, ErrLives):
	case err != nil:
		log.Error("the door has failed", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Lives reports whether a folder has a door.
func Lives(dir string) bool {
	unlock, err := lock(dir)
	if err == nil {
		unlock()
	}
	return errors.Is(err, ErrLives)
}

// Start starts the door of a folder as a process that outlives this one, unless there is one.
// vmid names the node to who looks for its processes. log is a file that the door's lines go to.
func Start(dir, vmid, log string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if Lives(dir) {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(program, role, dir)
	if process.HasSystemd() {
		// One unit by name: a second start of it fails, and the first one goes on.
		cmd = exec.Command("systemd-run", "--quiet", "--collect", "--unit=dsvm-door", "--property=Restart=on-failure", "--property=RestartSec=1",
			"--property=MemoryMax=256M", program, role, dir)
	} else {
		cmd.SysProcAttr = process.Apart()
	}
	// Nothing of the agent's own environment, above all no connection string.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DSVM_VMID=" + vmid, process.OwnUnit}
	for _, name := range []string{"HTTPS_PROXY", "NO_PROXY"} {
		if value := os.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the door cannot be started: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// Keep starts the door when there are sessions and no door, until ctx ends: after the first
// session has come, and when the door was killed.
func Keep(ctx context.Context, dir, vmid, log string, said *slog.Logger) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		files, _ := readFiles(dir, func(string, error) {}) // the door says what is wrong with one
		if len(files) == 0 {
			// Nobody is to come in.
		} else if err := Start(dir, vmid, log); err != nil {
			said.Error("starting the door has failed; nobody can come in", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lock takes the lock of a folder, which ends with the process.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := process.TryLock(f, false); err != nil {
		f.Close()
		if errors.Is(err, process.ErrLocked) {
			return nil, ErrLives
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
