package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"dsvmpools/agent/process"
	"dsvmpools/shared/boot"
	"dsvmpools/shared/pool"
)

// userDataVersion is the first version of the metadata endpoint that has user data.
const userDataVersion = "2021-01-01"

// readDocument reads the document of the node, once. A node without a metadata endpoint has
// an empty one.
func (b *booter) readDocument(ctx context.Context) error {
	if b.document != nil {
		return nil
	}
	var d boot.Document
	if b.cfg.Metadata != "" {
		m := newMetadata(b.cfg.Metadata)
		defer m.http.CloseIdleConnections()
		text, err := m.userData(ctx)
		if err != nil {
			return fmt.Errorf("the node's metadata cannot be read: %w", err)
		}
		if d, err = boot.Parse(text); err != nil {
			return errLast{err}
		}
	}
	b.document = &d
	return nil
}

// userData asks for the user data of the scale set's model, in base64; "" = it has none.
func (m *metadata) userData(ctx context.Context) (string, error) {
	var text rawText
	err := m.ask(ctx, metadataTimeout, http.MethodGet, "instance/compute/userData", userDataVersion+"&format=text", nil, &text)
	var refused statusError
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		return "", nil
	}
	return string(text), err
}

// openExtraShares finds the pool's other shares: where the node has mounted them or, on a
// machine where nothing is mounted, in folders beside the share. Attempts that start later
// see them.
func (l *launcher) openExtraShares(d boot.Document) error {
	paths := map[string]string{}
	for variable, s := range d.Variables() {
		path := s.Path
		if path == pool.SharePath { // it is in the place of the deployment's share
			path = l.cfg.Share
		} else if !l.cfg.ShareMounted {
			path = filepath.Join(filepath.Dir(l.cfg.Share), "shares", s.Account, s.Name)
			if err := l.makeShareFolder(path); err != nil {
				return fmt.Errorf("the folder of the share %q cannot be made: %w", s.Name, err)
			}
		} else if err := isMount(path); err != nil {
			return fmt.Errorf("the share %q of the account %q is not mounted at %s: %w", s.Name, s.Account, path, err)
		}
		paths[variable] = path
	}
	l.mu.Lock()
	l.shares = paths
	l.mu.Unlock()
	return nil
}

// extraShares are the paths of the pool's other shares, by variable. Nobody changes them.
func (l *launcher) extraShares() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shares
}

// makeShareFolder makes a folder where all jobs of the node can write.
func (l *launcher) makeShareFolder(path string) error {
	const shared = 0o775 | os.ModeSetgid
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	users := l.jobUsers()
	if len(users) == 0 {
		return nil
	}
	_, gid := process.NumbersOf(users[0])
	if err := os.Chown(path, 0, gid); err != nil && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return os.Chmod(path, shared)
}
