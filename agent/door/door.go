//go:build unix

// Package door lets people in to a node: it listens at the relay for each session that is
// there, and leads who comes to the session's sshd, and a browser, once it has shown a ticket,
// to the session's JupyterLab. Nothing else of the node can be reached.
//
// It is a process of its own, which neither the end nor an upgrade of the agent touches. The
// agent tells it of sessions by files; it tells the agent by files how many people are there.
// It listens as long as a session is there: without one, nothing is billed.
//
// It knows no pool, and it decides nothing about who may have a session.
package door

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// Times of the door.
const (
	lookEvery = time.Second      // at the files
	endAfter  = 30 * time.Second // without any session the process ends
)

// Run is the door of the sessions whose files are in a folder, until ctx ends, or no session was
// there for half a minute. Another door of the same folder ends it at once.
func Run(ctx context.Context, dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	key, err := cookieKey(filepath.Join(dir, "cookie.key"))
	if err != nil {
		return err
	}
	d := &door{dir: dir, log: log, key: key, open: map[string]*session{}, told: map[string]string{}}
	defer d.closeAll()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for used := time.Now(); time.Since(used) < endAfter; {
		d.look(ctx)
		if len(d.open) > 0 {
			used = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// door has the sessions that are there.
type door struct {
	dir  string
	log  *slog.Logger
	key  []byte // of cookies
	open map[string]*session
	told map[string]string // what was said of files that cannot be read
}

// look opens what is new, closes what has gone, and writes what has changed.
func (d *door) look(ctx context.Context) {
	files, err := readFiles(d.dir, d.complain)
	if err != nil {
		d.complain(d.dir, err)
		return
	}
	for name, s := range d.open {
		f, isThere := files[name]
		now := s.file.Load()
		if !isThere || f.Session != now.Session || f.UID != now.UID || f.URL != now.URL || f.WebURL != now.WebURL {
			d.log.Info("the door of a session is closed", "session", now.Session)
			s.end()
			delete(d.open, name)
			if !isThere {
				_ = os.Remove(filepath.Join(d.dir, name+stateSuffix))
			}
		}
	}
	for name, f := range files {
		s := d.open[name]
		if s == nil {
			d.log.Info("the door of a session is open", "session", f.Session, "user", f.User)
			s = begin(ctx, f, d.key, d.log)
			d.open[name] = s
		} else if !reflect.DeepEqual(*s.file.Load(), f) {
			s.file.Store(&f)
		}
		if state := s.state(); state != s.written {
			if err := writeState(filepath.Join(d.dir, name+stateSuffix), state); err != nil {
				d.complain(name, err)
				continue
			}
			s.written = state
		}
	}
}

// complain says once what is wrong with a file.
func (d *door) complain(name string, err error) {
	if errors.Is(err, os.ErrNotExist) {
		return // it went while it was read
	}
	if d.told[name] != err.Error() {
		d.told[name] = err.Error()
		d.log.Error("a file of a session cannot be used", "file", strings.TrimPrefix(name, d.dir), "error", err)
	}
}

func (d *door) closeAll() {
	for _, s := range d.open {
		s.end()
	}
}
