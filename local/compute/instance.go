//go:build unix

package compute

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// killAfter is how long a supervisor has to take its tree down before it is
// killed itself; the agent below it dies with it.
const killAfter = 10 * time.Second

// poolTag names the pool of a set's instances.
const poolTag = "dsvmpools-pool"

// resize sets the capacity and creates what is missing; lowering it takes the
// newest instances, as the default scale-in rule does. The lock is held.
func (s *Server) resize(st *set, capacity int) (*op, error) {
	if capacity < 0 || capacity > maxInstances {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "Parameter 'sku.capacity': it must be from 0 to %d.", maxInstances)
	}
	now := time.Now().UTC()
	if s.cfg.OnCapacity != nil {
		s.cfg.OnCapacity(st.Name, capacity, now)
	}
	var alive, fresh []*instance
	for _, i := range st.Instances {
		if i.State != deleting {
			alive = append(alive, i)
		}
	}
	o := &op{Set: st.Name}
	for n := len(alive); n < capacity; n++ {
		i := &instance{VMID: uuid.NewString(), ID: fmt.Sprint(st.NextID), Name: fmt.Sprintf("%s_%d", st.Name, st.NextID),
			Size: st.SKU.Name, Created: now, State: creating, set: st, kill: make(chan struct{})}
		st.NextID++
		st.Instances = append(st.Instances, i)
		fresh = append(fresh, i)
		o.VMIDs = append(o.VMIDs, i.VMID)
	}
	st.SKU.Capacity = int64(capacity)
	st.Version++
	if err := s.save(st); err != nil {
		return nil, err
	}
	for _, i := range fresh {
		s.run(i)
	}
	if len(alive) > capacity {
		if err := s.remove(st, alive[capacity:]); err != nil {
			return nil, err
		}
		st.SKU.Capacity = int64(capacity)
	}
	return s.begin(o), nil
}

// remove begins to delete instances; the capacity falls with them. The lock is
// held.
func (s *Server) remove(st *set, going []*instance) error {
	var begun []*instance
	for _, i := range going {
		if i.State != deleting {
			i.State = deleting
			st.SKU.Capacity = max(st.SKU.Capacity-1, 0)
			begun = append(begun, i)
		}
	}
	st.Version++
	if err := s.save(st); err != nil {
		return err
	}
	for _, i := range begun {
		close(i.kill)
	}
	return nil
}

// endIfEmpty removes a set that is being deleted and has no instances left. The
// lock is held.
func (s *Server) endIfEmpty(st *set) {
	if !st.Deleting || len(st.Instances) > 0 {
		return
	}
	delete(s.sets, strings.ToLower(st.Name))
	if err := s.save(st); err != nil {
		s.cfg.Log.Error("a deleted scale set stays on record", "set", st.Name, "error", err)
	}
}

// run lives an instance's life: boot, supervisor, restarts, deletion.
func (s *Server) run(i *instance) {
	s.wg.Go(func() {
		if s.wait(i, s.cfg.BootDelay) {
			s.running(i)
			for s.supervise(i) && s.wait(i, s.cfg.RestartDelay) {
				s.cfg.Log.Warn("an instance's supervisor ended and is started again", "instance", i.Name)
			}
		}
		select {
		case <-s.stop: // the machine stops; the instance stays on record
			return
		default:
		}
		select {
		case <-time.After(s.cfg.DeleteDelay):
		case <-s.stop:
			return
		}
		s.gone(i)
	})
}

// wait pauses; false when the instance is to go, or the machine stops.
func (s *Server) wait(i *instance, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-i.kill:
		return false
	case <-s.stop:
		return false
	case <-t.C:
		return true
	}
}

func (s *Server) running(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.State != creating {
		return
	}
	i.State = running
	if err := s.save(i.set); err != nil {
		s.cfg.Log.Error("an instance's state could not be stored", "instance", i.Name, "error", err)
	}
}

// gone takes an instance off the record when nothing of it is left.
func (s *Server) gone(i *instance) {
	if err := os.RemoveAll(s.dir(i)); err != nil {
		s.cfg.Log.Warn("an instance's directory could not be removed", "instance", i.Name, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := i.set.Instances[:0:0]
	for _, other := range i.set.Instances {
		if other != i {
			kept = append(kept, other)
		}
	}
	i.set.Instances = kept
	i.set.Version++
	if err := s.save(i.set); err != nil {
		s.cfg.Log.Error("a deleted instance stays on record", "instance", i.Name, "error", err)
	}
	s.endIfEmpty(i.set)
}

func (s *Server) dir(i *instance) string { return filepath.Join(s.cfg.Dir, i.Name) }

// supervise runs the instance's supervisor until it ends. It reports whether it
// ended by itself.
func (s *Server) supervise(i *instance) bool {
	cmd, err := s.command(i)
	if err != nil {
		s.cfg.Log.Error("an instance cannot be started", "instance", i.Name, "error", err)
		return true
	}
	stdin, err := cmd.StdinPipe() // held open as long as this machine lives
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.cfg.Log.Error("an instance's supervisor cannot be started", "instance", i.Name, "error", err)
		return true
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	defer stdin.Close()
	select {
	case <-ended:
		return true
	case <-i.kill:
	case <-s.stop:
	}
	stdin.Close()
	select {
	case <-ended:
	case <-time.After(killAfter):
		cmd.Process.Kill()
		<-ended
	}
	return false
}

// command is the supervisor of an instance, with the instance's environment.
func (s *Server) command(i *instance) (*exec.Cmd, error) {
	dir := s.dir(i)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	custom := filepath.Join(dir, "custom-data")
	if err := os.WriteFile(custom, i.set.customData(), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.cfg.LogDir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(s.cfg.LogDir, i.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	argv := append(append([]string(nil), s.cfg.Supervisor...), s.cfg.Agent...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(append(os.Environ(), s.cfg.Env...),
		"DSVM_VMID="+i.VMID, "DSVM_NODE="+i.Name, "DSVM_SIZE="+i.Size, "DSVM_POOL="+i.set.Tags[poolTag],
		"DSVM_INSTANCE_DIR="+dir, "DSVM_CUSTOM_DATA="+custom, "DSVM_RESTART_DELAY="+s.cfg.RestartDelay.String())
	if s.cfg.CPUs != nil {
		if n := s.cfg.CPUs(i.Size); n > 0 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("DSVM_CPUS=%d", n))
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in the terminal is for the machine, which stops its instances itself
	return cmd, nil
}
