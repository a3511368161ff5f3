//go:build unix

package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/agent/door"
	"dsvmpools/agent/entrance"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/protocol"
)

// Bounds of a door that is open for people who come in to attempts. It costs money by the hour.
const (
	entryLook    = time.Second      // between two looks at what may be closed
	longestEntry = 15 * time.Minute // without anybody
	mostEntries  = 200              // of a node
	mostCAs      = 8
)

// entries let people in to the attempts that run on the node, and operators to the node as a whole:
// while somebody has been announced by the pool, or is there, the door listens for each of them at
// the relay, and leads who comes to the SSH server here. With the agent, everything of it ends, as the attempts do; then the
// door closes by itself, since nobody renews its file.
type entries struct {
	*notebook
	cfg    Config
	slots  *slots
	dir    string // of the files for the door
	server *entrance.Server

	mu       sync.Mutex // comes before notebook.mu
	open     map[string]*entry
	listener net.Listener  // nil = nobody can come in
	stop     chan struct{} // closed when the agent ends
}

// entry is an attempt that people may come in to, or the node as a whole.
type entry struct {
	id     string
	n      int64  // of the assignment; 0 = the node as a whole
	user   string // that the attempt is for, for the door's log
	cas    []ssh.PublicKey
	inside entrance.Inside
	door   protocol.Door
	stays  time.Duration // how long it stays open for nobody
	until  time.Time     // it is closed then if nobody is there
	told   time.Time     // until when the door keeps it by itself
	here   int           // connections
}

// newEntries removes what an earlier life has left for the door.
func newEntries(cfg Config, b *notebook, l *launcher, hostKey ssh.Signer) *entries {
	e := &entries{notebook: b, cfg: cfg, slots: l.slots, dir: filepath.Join(cfg.InstanceDir, "doors"), open: map[string]*entry{},
		stop: make(chan struct{})}
	e.server = &entrance.Server{HostKey: hostKey, Log: b.log, Find: e.find, Enter: e.enter}
	old, _ := filepath.Glob(filepath.Join(e.dir, entryPrefix+"*"))
	for _, path := range old {
		os.Remove(path)
	}
	return e
}

// Names in the folder of the door. Files of sessions are called by numbers.
const (
	entryPrefix = "attempt."
	entrySocket = "attempts.sock"
)

func (e *entries) file(n int64) string {
	return filepath.Join(e.dir, entryPrefix+strconv.FormatInt(n, 10)+".json")
}

// announce opens the door for somebody who comes in. What cannot be done is logged:
// who comes finds nobody.
func (e *entries) announce(want protocol.Enter) {
	if err := e.tryAnnounce(want); err != nil {
		e.log.Warn("opening the door for somebody has failed", "entry", startfault.Clip(want.ID), "error", err.Error())
	}
}

func (e *entries) tryAnnounce(want protocol.Enter) error {
	if !servesGuests || e.server.HostKey == nil {
		return errors.New("nobody can come in to nodes of this system")
	}
	if want.Door == nil || want.Door.URL == "" || len(want.CAs) == 0 || len(want.CAs) > mostCAs {
		return errors.New("the message says neither where to listen nor whom to believe; bring handler and nodes to one release")
	}
	var cas []ssh.PublicKey
	for _, line := range want.CAs {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("a key that should sign certificates is no public key: %w", err)
		}
		cas = append(cas, key)
	}
	inside, user, err := e.insideOf(want)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.listen(); err != nil {
		return err
	}
	now := e.open[want.ID]
	if now == nil {
		if len(e.open) >= mostEntries {
			return fmt.Errorf("people come in to %d jobs of the node already", len(e.open))
		}
		now = &entry{id: want.ID, n: want.Target, user: user, inside: inside}
		e.open[want.ID] = now
		if len(e.open) == 1 {
			go e.watch()
		}
	}
	now.cas = cas
	now.stays = min(max(seconds(want.For), time.Second), longestEntry)
	now.until = time.Now().Add(now.stays)
	var all error
	for _, of := range e.open { // the token is good for the others, too, and lasts longer than theirs
		of.door = *want.Door
		all = errors.Join(all, e.tellDoor(of))
	}
	return all
}

// insideOf is what an announcement names: a running attempt of this node, with the user that it is
// for, or this node as a whole.
func (e *entries) insideOf(want protocol.Enter) (in entrance.Inside, user string, err error) {
	if want.Target == 0 && want.ID == protocol.EntryOfNode(e.cfg.VMID) {
		return &wholeNode{name: e.slots.launcher.node(), ended: e.stop}, "", nil
	}
	e.notebook.mu.Lock()
	h := e.st.held[want.Target]
	var r *run
	if h != nil && !h.isSession() && want.ID == protocol.EntryOfAttempt(h.work.Job, h.n) {
		r, user = h.run, h.work.User
	}
	e.notebook.mu.Unlock()
	if r == nil {
		return nil, "", errAttemptEnded
	}
	guests, err := r.receive()
	return &inside{run: r, slots: e.slots, guests: guests}, user, err
}

// listen opens the socket that the door leads people to. The caller holds mu.
func (e *entries) listen() error {
	select {
	case <-e.stop:
		return errors.New("the node's agent ends")
	default:
	}
	if e.listener != nil {
		return nil
	}
	if err := os.MkdirAll(e.dir, 0o711); err != nil {
		return err
	}
	l, err := door.ListenAt(filepath.Join(e.dir, entrySocket))
	if err != nil {
		return err
	}
	e.listener = l
	go e.server.Serve(l)
	return nil
}

// tellDoor writes the file of an entry, whole. The caller holds mu.
func (e *entries) tellDoor(of *entry) error {
	of.told = time.Now().Add(of.stays)
	text, err := json.Marshal(door.File{Session: of.id, User: cmp.Or(of.user, "nobody"), SSH: "unix:" + filepath.Join(e.dir, entrySocket),
		URL: of.door.URL, Token: of.door.Token, Until: of.told.UTC()})
	if err != nil {
		return err
	}
	path := e.file(of.n)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return door.Start(e.dir, e.cfg.VMID, filepath.Join(e.cfg.InstanceDir, "door.log"))
}

// watch closes what nobody needs, until nothing is open.
func (e *entries) watch() {
	tick := time.NewTicker(entryLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-e.stop:
			return
		}
		if e.look() == 0 {
			return
		}
	}
}

// look closes what nobody needs, and returns how many are open.
func (e *entries) look() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, of := range e.open {
		if of.here > 0 {
			of.until = now.Add(of.stays)
		}
		switch {
		case of.hasEnded() || now.After(of.until):
			e.close(of)
		case of.until.After(of.told) && of.told.Sub(now) < of.stays/2:
			if err := e.tellDoor(of); err != nil {
				e.log.Warn("keeping the door open has failed", "entry", of.id, "error", err.Error())
			}
		}
	}
	return len(e.open)
}

func (of *entry) hasEnded() bool {
	select {
	case <-of.inside.Ended():
		return true
	default:
		return false
	}
}

// close closes the door of an entry. The caller holds mu.
func (e *entries) close(of *entry) {
	delete(e.open, of.id)
	if err := os.Remove(e.file(of.n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("closing a door has failed", "entry", of.id, "error", err.Error())
	}
}

// shut closes all doors: the agent ends.
func (e *entries) shut() {
	close(e.stop)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, of := range e.open {
		e.close(of)
	}
	if e.listener != nil {
		e.listener.Close()
		os.Remove(filepath.Join(e.dir, entrySocket))
	}
}

// find finds what a certificate is for; see entrance.Server.
func (e *entries) find(id string) (entrance.Entry, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.open[id]
	if of == nil || of.hasEnded() {
		return entrance.Entry{}, false
	}
	over := "the job has ended"
	if of.n == 0 {
		over = "the node's agent has ended"
	}
	return entrance.Entry{CAs: slices.Clone(of.cas), Inside: of.inside, Over: over, Leave: func() {}}, true
}

// enter is find for somebody who has come, and is counted until leaving.
func (e *entries) enter(id string) (entrance.Entry, bool) {
	found, isThere := e.find(id)
	if !isThere {
		return found, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.open[id]
	if of == nil {
		return found, false
	}
	of.here++
	found.Leave = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		of.here--
		of.until = time.Now().Add(of.stays)
	}
	return found, true
}

// nodeKey reads the node's key for SSH as one that signs; nil = it has none.
func nodeKey(path string, log *slog.Logger) ssh.Signer {
	text, err := os.ReadFile(path)
	if err == nil {
		var key ssh.Signer
		if key, err = ssh.ParsePrivateKey(text); err == nil {
			return key
		}
	}
	log.Warn("the node's key for SSH cannot be used; nobody comes in", "error", strings.TrimSpace(err.Error()))
	return nil
}
