package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
)

// setupTries is how often a setup may fail: package servers have bad minutes, and a mistake
// in the script does not go away.
const setupTries = 3

// Pauses before the second try and the later ones.
const (
	setupPause    = 20 * time.Second
	setupPauseMax = 2 * time.Minute
)

// Bounds of what is kept of a setup's output: its beginning and its end, in bytes.
const (
	setupHead = 256 << 10
	setupTail = 256 << 10
)

// setupLines is how many of the last lines a report quotes.
const setupLines = 5

// runSetup runs the pool's setup script, as the agent's own user, once in each boot of the
// machine. The script must be idempotent: an agent that is killed while it runs runs it
// again, and so does one whose setup has failed.
func (b *booter) runSetup(ctx context.Context) error {
	script, dir := b.document.Setup, filepath.Join(b.cfg.InstanceDir, "setup")
	done := filepath.Join(dir, "done")
	if script == "" {
		return nil
	}
	boot := cmp.Or(b.cfg.BootID, machineBoot())
	if text, err := os.ReadFile(done); err == nil && boot != "" && string(text) == boot {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the folder of the setup cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	b.log.Info("running setup", "try", b.setups+1, "timeout", job.Duration(b.cfg.SetupTimeout).String())
	output := &boundedLog{head: setupHead, tail: setupTail}
	err := b.execSetup(ctx, dir, script, output)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.keepSetupLog(dir, output)
	if err == nil {
		if err := writeDurably(done, boot); err != nil {
			return fmt.Errorf("the end of the setup cannot be noted; check the disk of DSVM_INSTANCE_DIR: %w", err)
		}
		b.log.Info("setup has ended")
		return nil
	}
	if last := output.lastLines(setupLines); last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	if b.setups++; b.setups >= setupTries {
		return errLast{err}
	}
	return err
}

// execSetup runs the script to its end. What it leaves running is ended with it: a service
// is for the system to start.
func (b *booter) execSetup(ctx context.Context, dir, script string, output *boundedLog) error {
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		return fmt.Errorf("the pool's setup script cannot be written; check the disk of DSVM_INSTANCE_DIR: %w", err)
	}
	argv := []string{"bash", file}
	if strings.HasPrefix(script, "#!") {
		argv = []string{file}
	}
	key := b.launcher.node() + ".setup"
	process.KillAttempt(key) // of an agent that was killed
	ctx, cancel := context.WithTimeout(ctx, b.cfg.SetupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = b.setupEnvironment(key)
	cmd.SysProcAttr = process.Apart()
	cmd.Cancel = func() error { return process.KillGroup(cmd.Process) }
	cmd.WaitDelay = time.Second // what it leaves running may hold its output open
	err := cmd.Run()
	if cmd.Process != nil {
		_ = process.KillGroup(cmd.Process)
	}
	process.KillAttempt(key)
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the pool's setup script has not ended within %s", job.Duration(b.cfg.SetupTimeout))
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Errorf("the pool's setup script has ended with exit code %d", exit.ExitCode())
	}
	return fmt.Errorf("the pool's setup script cannot be run: %w", startfault.Innermost(err))
}

// setupEnvironment is the whole environment of the script. It has nothing of the agent's own
// environment, above all no connection string.
func (b *booter) setupEnvironment(key string) []string {
	env := map[string]string{
		"PATH": process.Path, "HOME": b.cfg.InstanceDir, "LANG": jobLang, process.KeyVariable: key,
		"DSVM_POOL": b.cfg.Pool, "DSVM_NODE": b.cfg.Node, "DSVM_SIZE": b.cfg.Size, "DSVM_SHARE": b.cfg.Share,
		"DEBIAN_FRONTEND": "noninteractive", // nobody is there to answer
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		env["HOME"], env["USER"], env["LOGNAME"] = u.HomeDir, u.Username, u.Username
	}
	for name, path := range b.launcher.extraShares() {
		env[name] = path
	}
	return listEnvironment(env)
}

// keepSetupLog keeps what the script has written on the node and on the share, at
// nodes/<pool>/<node>/setup.log.
func (b *booter) keepSetupLog(dir string, output *boundedLog) {
	text := output.text()
	err := os.WriteFile(filepath.Join(dir, "setup.log"), text, 0o600)
	_, failed := patience.Do(b.launcher.calls, b.cfg.StartWithin, func() (struct{}, error) {
		return struct{}{}, writeOnShare(b.cfg.Share, path.Join("nodes", b.cfg.Pool, b.cfg.Node), "setup.log", text)
	}, nil)
	if err := errors.Join(err, failed); err != nil {
		b.log.Warn("keeping the log of the setup has failed", "error", err.Error())
	}
}

// writeOnShare writes a file of the agent's own on the share. A job may have made what
// stands on the way: no link leads the agent elsewhere, also on the share itself, and no
// pipe holds it.
func writeOnShare(share, dir, name string, text []byte) error {
	at, err := os.Open(share)
	if err != nil {
		return err
	}
	defer func() { at.Close() }()
	for _, part := range strings.Split(dir, "/") {
		next, err := openDirAt(at, part, 0o755)
		if err != nil {
			return err
		}
		at.Close()
		at = next
	}
	f, err := openFileAt(at, name, 0, 0o644)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.Write(text)
	}
	return errors.Join(err, f.Close())
}

// writeDurably writes a small file so that it is there, whole, after a fall of the machine.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	countSync()
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// boundedLog keeps the beginning and the end of what is written to it. It is written to by
// one goroutine at a time.
type boundedLog struct {
	head, tail int // bytes that are kept of each
	first, end []byte
	leftOut    int64
}

// Write takes a piece, however long the whole gets.
func (l *boundedLog) Write(piece []byte) (int, error) {
	n := len(piece)
	if room := l.head - len(l.first); room > 0 {
		room = min(room, n)
		l.first, piece = append(l.first, piece[:room]...), piece[room:]
	}
	l.end = append(l.end, piece...)
	if over := len(l.end) - l.tail; over > l.tail { // not at each piece: that would move it all each time
		l.leftOut += int64(over)
		l.end = append(l.end[:0], l.end[over:]...)
	}
	return n, nil
}

func (l *boundedLog) text() []byte {
	if l.leftOut == 0 {
		return append(bytes.Clone(l.first), l.end...)
	}
	return append(fmt.Appendf(bytes.Clone(l.first), "\n... %d bytes are left out ...\n", l.leftOut), l.end...)
}

// lastLines are the last lines that say something, joined.
func (l *boundedLog) lastLines(most int) string {
	const look = 4 << 10
	text := l.text()
	var lines []string
	for line := range strings.Lines(string(text[max(len(text)-look, 0):])) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	last := strings.Join(lines[max(len(lines)-most, 0):], "\n")
	return strings.ToValidUTF8(last[max(len(last)-maxReason/2, 0):], "")
}
