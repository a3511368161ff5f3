//go:build unix

package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"dsvmpools/agent/entrance"
	"dsvmpools/agent/process"
)

// wholeNode is the node as a whole, as operators come in to it: as the agent's own account, which is root
// where the agent may do all that it is for. What they start ends with its shell or command, and so
// with their connection, and with the agent at the latest.
type wholeNode struct {
	name  string          // of the node, for people who look at its processes
	ended <-chan struct{} // closed when the agent ends
}

// Ended is closed when the agent ends.
func (h *wholeNode) Ended() <-chan struct{} { return h.ended }

// Dial connects to a port of this machine.
func (h *wholeNode) Dial(port int) (net.Conn, error) { return dialAs(nil, port) }

// hostPath is where programs are looked for. The agent's own environment holds what is for nobody
// else, so that nothing of it is passed on.
const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts a login shell or a command. Who is not root there is told so.
func (h *wholeNode) Start(c entrance.Command) (entrance.Process, error) {
	select {
	case <-h.ended:
		return nil, errors.New("the node's agent ends")
	default:
	}
	argv0 := findShell()
	argv := []string{"-" + filepath.Base(argv0)} // as login does
	if c.Line != "" {
		argv = []string{filepath.Base(argv0), "-c", c.Line}
	}
	name, home := agentAccount()
	attr := &syscall.ProcAttr{Dir: home, Sys: process.Attr(nil),
		Env: append([]string{"HOME=" + home, "USER=" + name, "LOGNAME=" + name, "SHELL=" + argv0, "PATH=" + hostPath}, c.Env...)}
	for _, f := range c.Files {
		attr.Files = append(attr.Files, f.Fd())
	}
	attr.Sys.Setctty = c.TTY
	if os.Geteuid() != 0 {
		fmt.Fprintf(c.Files[2], "dsvm: the agent of this node is not root but %s, and so are you\n", name)
	}
	g, err := h.startProcess(argv0, argv, attr)
	if err != nil {
		return nil, errors.New("it cannot be started on the node: " + strings.TrimSpace(err.Error()))
	}
	return g, nil
}

// agentAccount is the agent's own account, with a home that is there.
func agentAccount() (name, home string) {
	name = fmt.Sprint(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name, home = u.Username, u.HomeDir
	}
	if at, err := os.Stat(home); err != nil || !at.IsDir() {
		home = "/"
	}
	return name, home
}
