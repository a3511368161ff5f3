//go:build unix

package compute

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// killAfter is how long a supervisor may take to end its processes. Then the server kills
// the supervisor and all processes below it.
const killAfter = 10 * time.Second

// supervise runs the instance's supervisor until it ends, and reports whether it ended by
// itself.
func (s *Server) supervise(i *instance) bool {
	cmd, stdin, err := s.start(i)
	if err != nil {
		s.cfg.Log.Error("starting supervisor failed", "instance", i.Name, "error", err)
		return true
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	// No process of the instance remains, however the supervisor ended.
	defer s.sweep(i)
	defer stdin.Close()
	select {
	case <-ended:
		return true
	case <-i.kill:
	case <-i.halt:
	case <-s.stop:
	}
	stdin.Close()
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(s.cfg.KillAfter):
		s.cfg.Log.Warn("killing supervisor that does not end, with all processes below it", "instance", i.Name)
		killAll(func() []int { return descendants(processes(), cmd.Process.Pid) })
		cmd.Process.Kill()
		<-ended
	}
	return false
}

// sweep kills the processes that have the instance's VMID in their environment, and the
// processes below them, until there are none.
func (s *Server) sweep(i *instance) {
	stubborn := killAll(func() []int { return descendants(processes(), processesOfVM(i.VMID)...) })
	if len(stubborn) > 0 {
		s.cfg.Log.Warn("killing processes failed: they belong to another user", "instance", i.Name, "pids", stubborn)
	}
}

// start starts the supervisor of an instance, with the instance's environment. The
// supervisor's standard input stays open as long as the server runs.
func (s *Server) start(i *instance) (*exec.Cmd, io.WriteCloser, error) {
	dir := s.dir(i)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	data := i.customData()
	s.mu.Unlock()
	custom := filepath.Join(dir, "custom-data")
	if _, err := os.Stat(custom); err != nil { // fixed at the instance's creation, even if the model changes
		if err := os.WriteFile(custom, data, 0o600); err != nil {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll(s.cfg.LogDir, 0o755); err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(s.logOf(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close() // the process has its own descriptor
	argv := append(append([]string(nil), s.cfg.Supervisor...), s.cfg.Agent...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	// Sizes with GPUs exist here on machines without any. A setting gives agents the real ones.
	cmd.Env = append(append(append([]string{"DSVM_GPU_DEVICES=none"}, os.Environ()...), s.cfg.Env...),
		"DSVM_VMID="+i.VMID, "DSVM_NODE="+i.Name, // for sweep and the logs; the agent gets everything else from the metadata endpoint
		"DSVM_INSTANCE_DIR="+dir, "DSVM_CUSTOM_DATA="+custom, "DSVM_RESTART_DELAY="+s.cfg.RestartDelay.String(),
		"DSVM_BOOT_ID="+uuid.NewString(), // an instance that is started again is a machine that boots
		"DSVM_METADATA_ENDPOINT="+s.metadataURL(i))
	if s.cfg.CPUs != nil {
		if n := s.cfg.CPUs(i.Size); n > 0 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("DSVM_CPUS=%d", n))
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in the terminal is for the server, which stops its instances itself
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		stdin.Close()
		return nil, nil, err
	}
	return cmd, stdin, nil
}
