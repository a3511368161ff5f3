// Package door lets people in to a node: it listens at the relay for each session that is
// there, and leads who comes to the session's sshd, and a browser, once it has shown a ticket,
// to the session's JupyterLab. Nothing else of the node can be reached. Where the pool has
// other ways than the relay, it listens by TCP, too: a connection shows a way that the app has
// signed, and is passed on to the node that the way names, if that is another one.
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
	d := &door{
		dir:    dir,
		log:    log,
		key:    key,
		gate:   newGate(dir, log),
		open:   map[string]*session{},
		ended:  map[*session]time.Time{},
		places: map[string]*place{},
		told:   map[string]string{},
	}
	defer d.gate.close()
	defer d.closeAll()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for used := time.Now(); time.Since(used) < endAfter; {
		d.look(ctx)
		if len(d.open)+len(d.ended) > 0 || d.gate.isPassing() {
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
	key  []byte              // of cookies
	gate *gate               // where it listens by TCP
	open map[string]*session // by name of their files
	// ended are sessions whose browsers can still learn why, and until when.
	ended map[*session]time.Time
	// places are those at the relay, by address. The sessions of a node share them.
	places map[string]*place
	told   map[string]string // what was said of files that cannot be read
}

// look opens what is new, closes what has gone, and writes what has changed.
func (d *door) look(ctx context.Context) {
	files, err := readFiles(d.dir, d.complain)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // without its folder, the door has no session
		d.complain(d.dir, err)
		return
	}
	for s, until := range d.ended {
		if time.Now().After(until) {
			delete(d.ended, s)
			d.leave(s, "")
		}
	}
	for name, s := range d.open {
		f, isThere := files[name]
		now := s.file.Load()
		if !isThere || f.Session != now.Session || f.UID != now.UID || f.URL != now.URL || f.WebURL != now.WebURL ||
			f.WebBase != now.WebBase {
			d.log.Info("the door of a session is closed", "session", now.Session)
			if !isThere {
				s.takeLastWords()
			}
			d.end(s)
			delete(d.open, name)
			if !isThere {
				_ = os.Remove(filepath.Join(d.dir, name+stateSuffix))
			}
		}
	}
	for name, f := range files {
		s := d.open[name]
		if f.Listen != "" && s != nil {
			d.gate.take(s) // it may not have been able to listen
		}
		if s == nil {
			d.log.Info("the door of a session is open", "session", f.Session, "user", f.User)
			s = newSession(f, d.key, d.log)
			d.open[name] = s
			d.join(ctx, s)
		} else if !reflect.DeepEqual(*s.file.Load(), f) {
			s.file.Store(&f)
			d.join(ctx, s)
		}
		if state := s.state(d.whyClosed(f)); state != s.written {
			if err := writeState(filepath.Join(d.dir, name+stateSuffix), state); err != nil {
				d.complain(name, err)
				continue
			}
			s.written = state
		}
	}
}

// join has a session's places and the gate listen, and lets its people in there.
func (d *door) join(ctx context.Context, s *session) {
	f := s.file.Load()
	d.gate.take(s)
	for _, at := range []struct {
		address, token string
		web            bool
	}{{f.URL, f.Token, false}, {f.WebURL, f.WebToken, true}} {
		if f.URL == "" || at.address == "" {
			continue
		}
		if d.places[at.address] == nil {
			d.places[at.address] = openPlace(ctx, at.address, at.web, d.log)
		}
		d.places[at.address].take(s, at.token)
	}
}

// end ends a session: nobody comes in any more. Where a browser watches, it can still learn why.
func (d *door) end(s *session) {
	d.gate.remove(s)
	s.end()
	if s.lastWords() == nil {
		d.leave(s, "")
		return
	}
	d.ended[s] = time.Now().Add(lastWordsFor)
	d.leave(s, s.file.Load().WebURL)
}

// leave takes a session from its places but one, and ends those that nobody has any more: they
// cost money.
func (d *door) leave(s *session, but string) {
	for address, p := range d.places {
		if address == but {
			continue
		}
		if p.remove(s) == 0 {
			p.close()
			delete(d.places, address)
		}
	}
}

// whyClosed says why nobody can come in to a session; "" = one of its ways is open.
func (d *door) whyClosed(f File) string {
	why := "the node has no place at the relay"
	if p := d.places[f.URL]; p != nil {
		why = p.whyClosed()
	}
	if f.Listen != "" && why != "" {
		why = d.gate.whyClosed()
	}
	return why
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
		d.gate.remove(s)
		s.end()
		d.leave(s, "")
	}
	for s := range d.ended {
		d.leave(s, "")
	}
}
