package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"
)

// A desktop that does not come by the relay comes in SSH, by whatever way SSH has: the node's key is
// known there, and the certificate of a server for RDP is not.

// prepareSSH writes the files with which OpenSSH comes in to the session.
func (d *desktop) prepareSSH(ctx context.Context, folder sshFolder) error {
	if found("ssh") == "" {
		return errors.New("the desktops of this pool come by SSH, and there is no OpenSSH here; install its client")
	}
	if err := d.p.admit(ctx, d.s, d.of); err != nil {
		return err
	}
	text, _, err := d.p.makeSSHConfig(ctx)
	if err != nil {
		return err
	}
	d.config = folder.path(sshConfigFile)
	return folder.write(d.config, []byte(text))
}

// leaveTime is how long OpenSSH's last bytes are waited for once it has ended.
const leaveTime = time.Second

// dialSSH connects to a port on localhost of the session's node. OpenSSH says on standard error why it could
// not.
func (d *desktop) dialSSH(ctx context.Context, port int) (net.Conn, error) {
	if d.config == "" {
		return nil, fmt.Errorf("the ways to pool %q have changed; run `dsvm rdp %s` again", d.of.Pool, d.of.Pool)
	}
	ctx, end := context.WithCancel(ctx)
	near, far := net.Pipe()
	c := exec.CommandContext(ctx, "ssh", "-F", d.config, "-W", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), hostName(d.of.Pool))
	c.Stdin, c.Stdout, c.Stderr, c.WaitDelay = far, far, d.p.Err, leaveTime
	if err := c.Start(); err != nil {
		end()
		return nil, fmt.Errorf("ssh could not be started: %w", err)
	}
	go func() {
		defer end()
		_ = c.Wait() // it has said what is wrong
		_ = far.Close()
	}()
	return sshConn{near, end}, nil
}

// sshConn is a connection by OpenSSH, which ends with it.
type sshConn struct {
	net.Conn
	end context.CancelFunc
}

func (c sshConn) Close() error {
	c.end()
	return c.Conn.Close()
}
