package person

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dsvmpools/agent/process"
)

// role is the argument by which a program plays a keeper.
const role = "dsvm-session"

// startWithin bounds the time in which a keeper takes its lock: it does that first.
const startWithin = 20 * time.Second

// FindSSHD finds the system's SSH server.
func FindSSHD() (string, error) {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if at, err := os.Stat(path); err == nil && at.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", errors.New("sessions need an SSH server: install openssh-server, or put it into the image")
}

// CanServe says why this node can have no sessions of people with accounts of their own;
// nil = it can.
func CanServe() error {
	if os.Geteuid() != 0 {
		return errors.New("sessions need root: each person has an account of their own; run the agent, or `dsvm up`, as root")
	}
	_, err := FindSSHD()
	return err
}

// HasGroups reports whether the system makes the control groups of keepers by itself.
func HasGroups() bool { return process.HasSystemd() }

// Start starts the keeper of a session, unless it has one. It returns once that lives; what
// the keeper makes after that is in its states.
func Start(p Plan, log *slog.Logger) error {
	if err := p.Check(); err != nil {
		return err
	}
	if Lives(p.Run) {
		return nil
	}
	if err := p.write(); err != nil {
		return err
	}
	if err := makeRunFolder(p); err != nil {
		return fmt.Errorf("the session's run folder cannot be made: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var cmd *exec.Cmd
	inUnit := HasGroups() && !p.Own
	if inUnit {
		cmd = p.unit(program)
	} else {
		cmd = exec.Command(program, role, p.State)
		// A session of its own, and no signal at the end of who starts it: it outlives the agent.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	out, err := os.OpenFile(filepath.Join(p.State, "keeper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	// Nothing of the agent's own environment, above all no connection string. By the VM's id
	// the processes of an instance on one machine are found.
	cmd.Env = []string{"PATH=" + systemPath, "LANG=C.UTF-8", "DSVM_VMID=" + p.VMID, process.OwnUnit}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the session's keeper cannot be started: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	const look = 5 * time.Millisecond
	for end := time.Now().Add(startWithin); time.Now().Before(end); time.Sleep(look) {
		if Lives(p.Run) {
			log.Info("keeper of session lives", "session", p.Session, "user", p.User)
			return nil
		}
		select {
		case err := <-ended:
			if err != nil || !inUnit {
				return fmt.Errorf("the session's keeper has ended at once: %v; see %s", err, out.Name())
			}
		default:
		}
	}
	return fmt.Errorf("the session's keeper has not come up within %s", startWithin)
}

// makeRunFolder makes the run folder of a session. The folder above it must be nobody else's:
// in /tmp somebody may have made it before.
func makeRunFolder(p Plan) error {
	if !p.Own {
		return os.MkdirAll(p.Run, 0o711)
	}
	above := filepath.Dir(p.Run)
	if err := os.Mkdir(above, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	at, err := os.Lstat(above)
	if err != nil {
		return err
	}
	if sys, ok := at.Sys().(*syscall.Stat_t); !ok || !at.IsDir() || int(sys.Uid) != os.Geteuid() || at.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not yours alone; remove it", above)
	}
	return os.MkdirAll(p.Run, 0o700)
}

// unit is the command that has systemd run the keeper, in a unit and a control group of its
// own, outside the agent's.
func (p Plan) unit(program string) *exec.Cmd {
	properties := []string{"KillMode=control-group", "OOMPolicy=continue", "OOMScoreAdjust=" + strconv.Itoa(keeperScore), "TasksMax=16384"}
	if p.Memory > 0 {
		properties = append(properties, fmt.Sprintf("MemoryMax=%d", p.Memory))
	}
	if p.CPUs > 0 {
		properties = append(properties, fmt.Sprintf("CPUQuota=%d%%", 100*p.CPUs))
	}
	argv := []string{"--quiet", "--collect", "--slice=dsvmsessions.slice", "--unit=" + p.unitName(), "--setenv=DSVM_VMID=" + p.VMID}
	for _, property := range properties {
		argv = append(argv, "--property="+property)
	}
	return exec.Command("systemd-run", append(argv, program, role, p.State)...)
}

func (p Plan) unitName() string { return "dsvm-session-" + strconv.FormatInt(p.N, 10) }

// clearWithin bounds the killing of what a session has left.
const clearWithin = 10 * time.Second

// Clear ends what is left of a session whose keeper does not live: its processes, and its
// run folder. It reports whether nothing is left. The home stays.
func Clear(p Plan) bool {
	if p.UID < minUID && !p.Own { // nothing was ever started of it
		return true
	}
	if Lives(p.Run) {
		return false
	}
	const look = 5 * time.Millisecond
	empty := false
	for end := time.Now().Add(clearWithin); time.Now().Before(end); time.Sleep(look) {
		left := p.remains()
		if empty = len(left) == 0; empty {
			break
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	removeGroups(p.Groups)
	os.RemoveAll(p.Run)
	return empty
}

// CloseAccount closes the account of a session whose keeper was killed before it could. The
// person may have no other session on the node.
func CloseAccount(p Plan) {
	lockAccount(p)
	if p.OwnUsers || p.UID < minUID {
		return
	}
	const look = 5 * time.Millisecond
	for end := time.Now().Add(clearWithin); time.Now().Before(end); time.Sleep(look) {
		if killAllOf(p.UID) != nil || len(processesOf(p.UID)) == 0 {
			return // where it fails, what was in the session is dead by Clear
		}
	}
}

// remains lists what is left of a session: what is in its control groups, and what runs as
// its person.
func (p Plan) remains() []int {
	seen := map[int]bool{}
	var all []int
	add := func(pid int) {
		if pid > 1 && pid != os.Getpid() && !seen[pid] {
			seen[pid], all = true, append(all, pid)
		}
	}
	for _, dir := range p.Groups {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				add(pid)
			}
		}
	}
	if p.Own { // the account has other processes: those of the session have its name
		mark := "DSVM_SESSION=" + p.Session
		eachProcess(func(pid int, s processStatus) {
			if s.uid == p.UID && hasVariable(pid, mark) {
				add(pid)
			}
		})
		return all
	}
	// The same person may have a session on another node of this machine: only a process in
	// the session's own view of the machine is the session's.
	view, _ := os.ReadFile(filepath.Join(p.State, viewFile))
	eachProcess(func(pid int, s processStatus) {
		if s.uid == p.UID && len(view) > 0 && viewOf(pid) == string(view) {
			add(pid)
		}
	})
	return all
}

func removeGroups(dirs []string) {
	for _, dir := range dirs {
		syscall.Rmdir(dir)
	}
}
