package person

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"dsvmpools/shared/wholefile"
)

// maxConnections bounds the connections of a session, of which most editors have two. Those
// that have not logged in end after the login's grace.
const maxConnections = 100

// maxLog is how large sshd's log may get, in bytes, before it begins anew.
const maxLog = 8 << 20

// separation is the empty folder that sshd needs. It is lost with a boot.
const separation = "/run/sshd"

// sshdConfig is that of one session: certificates alone, one account, and no way around.
// There is one sshd for each connection, started by the keeper, so that logins are in the
// session's control group and view, and no port of the machine is open to anybody.
const sshdConfig = `# Written by the session's keeper.
HostKey %[1]s
AuthorizedKeysFile none
TrustedUserCAKeys %[2]s
AuthorizedPrincipalsFile %[3]s
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitRootLogin no
PermitEmptyPasswords no
PermitUserEnvironment no
PermitUserRC no
AllowUsers %[4]s
UsePAM no
UseDNS no
StrictModes %[6]s
LoginGraceTime 30
MaxAuthTries 6
MaxSessions 100
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
GatewayPorts no
X11Forwarding no
PermitTunnel no
ClientAliveInterval 30
ClientAliveCountMax 3
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
SetEnv %[5]s
Subsystem sftp internal-sftp
PidFile none
LogLevel VERBOSE
`

func (k *keeper) principalsFile() string { return filepath.Join(k.plan.Run, "principals", k.plan.User) }

func (k *keeper) configFile() string { return filepath.Join(k.plan.Run, "sshd_config") }

// serveSSH writes what sshd reads, has it checked by sshd itself, and takes connections. An
// sshd that is not root's lets in its own account and nobody else, by what OpenSSH checks
// itself. Its files are below /tmp, which StrictModes refuses; the folder there is the
// account's alone.
func (k *keeper) serveSSH() error {
	p, strict := k.plan, "yes"
	switch {
	case p.SSHD == "":
		return nil
	case p.Own:
		strict = "no"
	default:
		if err := os.MkdirAll(separation, 0o755); err != nil {
			return fmt.Errorf("the folder of sshd cannot be made: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(k.principalsFile()), 0o755); err != nil {
		return err
	}
	cas := filepath.Join(p.Run, "ca.pub")
	if err := wholefile.Replace(cas, []byte(strings.Join(p.CAs, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	var settings []string
	shells := k.sessionEnvironment()
	if p.OnShare { // JupyterLab has another one, in the run folder
		shells = append(shells, "JUPYTER_RUNTIME_DIR="+filepath.Join(p.local(), ".local/share/jupyter/runtime"))
	}
	if p.Own { // sshd has another one where the agent was given one
		shells = append(shells, "HOME="+p.home())
	}
	for _, v := range shells {
		settings = append(settings, quoteSetting(v))
	}
	text := fmt.Sprintf(sshdConfig, p.HostKey, cas, k.principalsFile(), p.User, strings.Join(settings, " "), strict)
	if err := wholefile.Replace(k.configFile(), []byte(text), 0o600); err != nil {
		return err
	}
	if err := k.tool(p.SSHD, "-t", "-f", k.configFile()); err != nil {
		return fmt.Errorf("sshd does not take its settings: %w", err)
	}
	l, err := listenAt(p.SSH())
	if err != nil {
		return fmt.Errorf("the session's socket for SSH cannot be made: %w", err)
	}
	// The last thing: from here on a certificate of the session lets its person in.
	if err := wholefile.Replace(k.principalsFile(), []byte(p.principal()+"\n"), 0o644); err != nil {
		return err
	}
	go k.takeLogins(l)
	return nil
}

// takeLogins starts an sshd for each connection.
func (k *keeper) takeLogins(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		if err := k.startLogin(c); err != nil {
			k.log.Warn("starting sshd has failed", "error", err.Error())
		}
		c.Close()
	}
}

func (k *keeper) startLogin(c *net.UnixConn) error {
	k.mu.Lock()
	full, ending := len(k.conns) >= maxConnections, k.ending
	k.mu.Unlock()
	if full || ending {
		return fmt.Errorf("refused: %d connections are open, ending %v", maxConnections, ending)
	}
	socket, err := c.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	log := filepath.Join(k.plan.State, "sshd.log")
	if at, err := os.Stat(log); err == nil && at.Size() > maxLog {
		os.Rename(log, log+".1")
	}
	pid, ended, err := k.reaper.start(command{
		argv:   []string{k.plan.SSHD, "-i", "-f", k.configFile(), "-E", log},
		env:    append(slices.Clone(toolEnvironment), "DSVM_SESSION="+k.plan.Session),
		dir:    "/",
		login:  true,
		stdin:  socket,
		stdout: socket,
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.conns[pid] = true
	k.mu.Unlock()
	go func() {
		<-ended
		k.mu.Lock()
		delete(k.conns, pid)
		k.mu.Unlock()
	}()
	return nil
}

// sessionEnvironment is what every program of the session has, as NAME=value.
func (k *keeper) sessionEnvironment() []string {
	p := k.plan
	gpus := make([]string, len(p.GPUs))
	for i, g := range p.GPUs {
		gpus[i] = strconv.Itoa(g)
	}
	all := []string{
		"DSVM_POOL=" + p.Pool, "DSVM_NODE=" + p.Node, "DSVM_SESSION=" + p.Session, "DSVM_SHARE=" + p.Share,
		"CUDA_VISIBLE_DEVICES=" + strings.Join(gpus, ","),
	}
	all = append(all, p.localEnvironment()...)
	if _, err := os.Stat(p.secrets()); err == nil {
		all = append(all, "DSVM_SECRETS="+p.secrets())
	}
	return append(all, k.secretVariables()...)
}

// path is where the session's programs are looked for.
func (p Plan) path() string { return cmp.Or(p.Path, systemPath) }

// environment is that of the programs that the keeper starts as the person.
func (k *keeper) environment() []string {
	p := k.plan
	return append([]string{
		"PATH=" + p.path(), "LANG=C.UTF-8", "HOME=" + p.home(), "USER=" + p.User, "LOGNAME=" + p.User, "SHELL=/bin/bash",
	}, k.sessionEnvironment()...)
}

// end ends the session, once: nobody comes in any more, what runs is asked to end, then
// killed, and the account is closed.
func (k *keeper) end(e ending) {
	k.mu.Lock()
	again := k.ending
	k.ending = true
	k.mu.Unlock()
	if again {
		return
	}
	go func() {
		<-k.made // what a step is just making is ended after it
		k.log.Info("ending session", "session", k.plan.Session, "reason", e.Reason)
		os.Remove(k.principalsFile())
		os.Remove(k.plan.SSH())
		if !k.plan.Own {
			k.noteEnd(e.Reason)
		}
		for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
			for _, pid := range k.below() {
				syscall.Kill(pid, signal)
			}
		}
		k.awaitEmpty(e.Grace, false)
		lockAccount(k.plan) // before what runs is killed: nothing is to start it again
		for !k.awaitEmpty(clearWithin, true) {
			k.log.Warn("processes of the session cannot be ended", "pids", k.below())
		}
		k.change(func(s *State) { s.Ended, s.Ready = true, false })
		close(k.ended)
	}()
}

// below lists the processes of the session: all that the keeper has started, or that have
// come to it, and on a node of its own all of its person, also what cron or the person's own
// systemd has started beside the session.
func (k *keeper) below() []int {
	all := descendants(os.Getpid())
	left := k.plan.remains()
	if !k.plan.OwnUsers {
		left = append(left, processesOf(k.plan.UID)...)
	}
	for _, pid := range left {
		if !slices.Contains(all, pid) {
			all = append(all, pid)
		}
	}
	return all
}
