package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/seal"
	"dsvmpools/shared/wire"
)

// Times of a desktop.
const (
	// passwordWithin is how long a node has to make a password: its message, a program of the
	// system, and its report.
	passwordWithin = time.Minute
	passwordLook   = 500 * time.Millisecond
	// desktopOpens is how long the door of a node may not know yet of the password.
	desktopOpens = 10 * time.Second
)

// desktopKeyFile holds the key that passwords of desktops are sealed to, one for this person
// and machine.
const desktopKeyFile = "desktop_key"

func rdpCommand(p *Program) *cobra.Command {
	want := stay{intent: wire.IntentOpen}
	var port int
	var noClient bool
	c := &cobra.Command{
		Use: "rdp POOL", Short: "Open the desktop of a node of an interactive pool", Args: exactly("the name of a POOL"),
		Long: `Open the desktop of your session in a pool by RDP, if the pool has desktops. It
starts a session where you have none, waits while a node boots, opens a port of this
machine that leads there, writes a file for clients of RDP, and starts the client that
is here: mstsc, xfreerdp, or what opens such files on macOS. --no-client starts none.
The port is open until the client ends, or until Ctrl-C.

The password is for this session, and was made by its node for this machine alone.`,
		Example:           "  dsvm rdp win\n  dsvm rdp lab --no-client --port 3390",
		ValidArgsFunction: firstOf(p.completePools),
		RunE: func(c *cobra.Command, args []string) error {
			want.pool = args[0]
			if port < 0 || port > 65535 {
				return WrongUse("--port is %d; write 1 to 65535, or leave it out for a free one", port)
			}
			s, err := p.connectToSessions()
			if err != nil {
				return err
			}
			if err := hasDesktops(c.Context(), s, want.pool); err != nil {
				return s.explain(err)
			}
			ready, err := p.wakeUp(c.Context(), s, want)
			if err != nil {
				return s.explain(err)
			}
			d, err := p.openDesktop(c.Context(), s, ready, port)
			if err != nil {
				return s.explain(err)
			}
			defer d.close()
			return p.showDesktop(c.Context(), d, noClient)
		},
	}
	want.flags(c)
	c.Flags().IntVar(&port, "port", 0, "port of this machine (default: a free one)")
	c.Flags().BoolVar(&noClient, "no-client", false, "print how to connect, and start no client")
	return c
}

// hasDesktops returns an error if a pool has none, before a node is woken for nothing.
func hasDesktops(ctx context.Context, s *session, name string) error {
	of, err := interactiveSpec(ctx, s, name)
	if err != nil || of == nil || of.Sessions != nil && of.Sessions.Desktop != "" {
		return err
	}
	return fmt.Errorf("pool %q has no desktops; `dsvm ssh %s` opens a shell, and an operator can have the pool offer them with `desktop: rdp`",
		name, name)
}

// desktop is a port of this machine that leads to the desktop of a session.
type desktop struct {
	p        *Program
	s        *session
	of       wire.Session
	key      seal.Key
	user     string
	sealed   string
	password string
	listener net.Listener
	file     string // for clients of RDP
	config   string // of OpenSSH, where that leads to the desktop
}

// openDesktop gets the password and opens the port.
func (p *Program) openDesktop(ctx context.Context, s *session, of wire.Session, port int) (*desktop, error) {
	folder, err := p.sshFolder()
	if err != nil {
		return nil, err
	}
	d := &desktop{p: p, s: s, of: of}
	if d.key, err = folder.desktopKey(); err != nil {
		return nil, err
	}
	way, err := d.ask(ctx)
	if err != nil {
		return nil, err
	}
	d.user, d.sealed = way.User, way.Sealed
	if way.Port != 0 {
		if err := d.prepareSSH(ctx, folder); err != nil {
			return nil, err
		}
	}
	if d.password, err = d.key.Open(way.Sealed, protocol.DesktopPurpose(of.ID, way.User)); err != nil {
		return nil, err
	}
	if d.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		return nil, fmt.Errorf("port %d of this machine cannot be had: %w; leave --port out for a free one", port, err)
	}
	d.file = folder.path(of.Pool + ".rdp")
	if err := folder.write(d.file, []byte(rdpFile(d.listener.Addr().String(), d.user))); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *desktop) close() { _ = d.listener.Close() }

// rdpFile is what clients of RDP read. The certificate of the node's server is its own, and the
// way there is the door's, so that nobody is asked about it.
func rdpFile(address, user string) string {
	return strings.Join([]string{
		"full address:s:" + address, "username:s:" + user, "prompt for credentials:i:0", "authentication level:i:0", "",
	}, "\r\n")
}

// ask gets what one connection needs, and waits for the password.
func (d *desktop) ask(ctx context.Context) (wire.SessionDesktop, error) {
	stop := d.p.progress("asking node " + d.of.Node + " for the desktop")
	defer stop()
	for until := time.Now().Add(passwordWithin); ; {
		way, err := withPatience(ctx, func() (wire.SessionDesktop, error) { return d.s.Desktop(ctx, d.of.ID, d.key.Public()) })
		switch {
		case err != nil || way.Sealed != "":
			return way, err
		case time.Now().After(until):
			return way, fmt.Errorf("node %q has made no password for the desktop within %s; `dsvm session show %s` says how it is",
				d.of.Node, passwordWithin, d.of.Pool)
		}
		if err := pause(ctx, passwordLook); err != nil {
			return way, err
		}
	}
}

// showDesktop serves the port, and starts the client.
func (p *Program) showDesktop(ctx context.Context, d *desktop, noClient bool) error {
	client, args, typed := rdpClient(d)
	if noClient {
		client = ""
	}
	password := d.password
	if typed && client != "" {
		password = "" // the client gets it, and nobody else sees it
	}
	out := struct {
		Address  string `json:"address"`
		User     string `json:"user"`
		Password string `json:"password,omitempty"`
		File     string `json:"file"`
	}{d.listener.Addr().String(), d.user, password, d.file}
	lines := []string{"address   " + out.Address, "user      " + out.User}
	if password != "" {
		lines = append(lines, "password  "+password)
	}
	if err := p.answer(out, append(lines, "file      "+out.File)...); err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.serve(ctx)
	}()
	defer func() { d.close(); <-served }()
	defer end()
	if client == "" {
		p.Say("open %s with a client of RDP; Ctrl-C closes the port", d.file)
		<-ctx.Done()
		return nil
	}
	return p.runRDP(ctx, d, client, args, typed)
}

// rdpClient is the client that is here, "" = none is; typed: it reads the password from its
// standard input, so that no list of processes shows it.
func rdpClient(d *desktop) (program string, args []string, typed bool) {
	switch runtime.GOOS {
	case "windows":
		return found("mstsc.exe"), []string{d.file}, false
	case "darwin":
		return found("open"), []string{d.file}, false
	}
	args = []string{"/v:" + d.listener.Addr().String(), "/u:" + d.user, "/cert:ignore", "/from-stdin:force",
		"/dynamic-resolution", "+clipboard"}
	for _, name := range []string{"xfreerdp3", "xfreerdp"} {
		if path := found(name); path != "" {
			return path, args, true
		}
	}
	return "", nil, false
}

func found(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// runRDP runs the client. One that only hands the file to another program ends at once: the
// port then stays open until Ctrl-C.
func (p *Program) runRDP(ctx context.Context, d *desktop, program string, args []string, typed bool) error {
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = p.Err, p.Err
	if typed {
		c.Stdin = strings.NewReader(d.password + "\n")
	}
	err := c.Run()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.As(err, &ended):
		return fmt.Errorf("%s has ended with code %d; --no-client starts none, and prints how to connect", program, ended.ExitCode())
	case err != nil:
		return fmt.Errorf("%s could not be started: %w", program, err)
	case runtime.GOOS == "darwin":
		p.Say("the client is another program; Ctrl-C closes the port")
		<-ctx.Done()
	}
	return nil
}

// serve leads connections to the port to the desktop, until ctx ends.
func (d *desktop) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, d.close)
	defer stop()
	for {
		local, err := d.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer local.Close()
			if err := d.pass(ctx, local); err != nil && ctx.Err() == nil {
				d.p.Say("%s", message(d.s.explain(err)))
			}
		}()
	}
}

// pass leads one connection: each has a ticket of its own.
func (d *desktop) pass(ctx context.Context, local net.Conn) error {
	node, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	stop := context.AfterFunc(ctx, func() { node.Close(); local.Close() })
	defer stop()
	return join(local, node)
}

func (d *desktop) dial(ctx context.Context) (net.Conn, error) {
	for until := time.Now().Add(desktopOpens); ; {
		way, err := d.ask(ctx)
		if err != nil {
			return nil, err
		}
		if way.Sealed != d.sealed {
			return nil, fmt.Errorf("another machine has asked for this desktop since, so that its password has changed; run `dsvm rdp %s` again",
				d.of.Pool)
		}
		if way.Port != 0 {
			return d.dialSSH(ctx, way.Port)
		}
		node, err := d.p.DialDesktop(ctx, way)
		code := fault.CodeOf(err)
		if err == nil || code != fault.NotFound && code != fault.Throttled || time.Now().After(until) || pause(ctx, passwordLook) != nil {
			return node, err
		}
	}
}

// desktopKey is the key that passwords are sealed to, which is made where it is missing.
func (f sshFolder) desktopKey() (seal.Key, error) {
	name := f.path(desktopKeyFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		var made seal.Key
		if made, err = seal.NewKey(); err != nil {
			return made, err
		}
		var private string
		if private, err = made.Private(); err != nil {
			return made, err
		}
		if err := f.makeOnce(name, []byte(private+"\n")); err != nil {
			return made, err
		}
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return seal.Key{}, fmt.Errorf("your key for desktops cannot be read: %w", err)
	}
	k, err := seal.ParseKey(strings.TrimSpace(string(text)))
	if err != nil {
		return k, fmt.Errorf("%s holds no key; move it away, and the next command makes another", name)
	}
	return k, nil
}

// join passes bytes both ways until one side ends.
func join(local, node net.Conn) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(node, local) // its error is that of the other direction, too
		node.Close()
	}()
	_, err := io.Copy(local, node)
	local.Close() // after all that the node has said
	<-done
	if errors.Is(err, net.ErrClosed) {
		return nil // the client has ended
	}
	return err
}
