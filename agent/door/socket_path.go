package door

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// longestPath is the longest path of a socket that every system takes.
const longestPath = 100

// nearby gives a socket a path that is short enough, by a folder that is held open until done is
// called.
func nearby(path string) (short string, done func(), err error) {
	if len(path) <= longestPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// ListenAt listens at a socket that only this user reaches, in the place of one that is there. The
// folder is the user's own.
func ListenAt(path string) (net.Listener, error) {
	os.Remove(path)
	short, done, err := nearby(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// dial connects to a target of a file.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		short, done, err := nearby(address)
		if err != nil {
			return nil, err
		}
		defer done()
		address = short
	}
	return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, address)
}

// isOver reports whether the agent has stopped renewing a file.
func (f File) isOver(now time.Time) bool { return !f.Until.IsZero() && now.After(f.Until) }
