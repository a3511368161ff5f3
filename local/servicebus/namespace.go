package servicebus

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"dsvmpools/local/servicebus/admin"
	"dsvmpools/local/servicebus/queue"
)

// namespace is the server as the administration over HTTP sees it.
type namespace struct{ *Server }

func (n namespace) Info() admin.Info {
	name, _, _ := net.SplitHostPort(n.Addr())
	return admin.Info{Name: name, Premium: n.cfg.Premium, Created: n.started}
}

func (n namespace) Get(name string) (admin.Queue, bool) {
	e, q := n.find(name)
	if e == nil || q != e.queue {
		return admin.Queue{}, false
	}
	return e.describe(), true
}

// describe returns the description and the counts of the queue.
func (e *entity) describe() admin.Queue {
	active, scheduled, deferred, _ := e.queue.Counts()
	deadActive, _, deadDeferred, _ := e.queue.DeadLetters().Counts()
	e.mu.Lock()
	defer e.mu.Unlock()
	out := admin.Queue{Name: e.name, Description: e.about, Created: e.created, Updated: e.updated,
		ActiveCount: active + deferred, ScheduledCount: scheduled, DeadCount: deadActive + deadDeferred,
		Bytes: e.queue.Bytes() + e.queue.DeadLetters().Bytes()}
	if at := e.accessed.Load(); at != 0 {
		out.Accessed = time.Unix(0, at)
	}
	return out
}

func (n namespace) List() []admin.Queue {
	var out []admin.Queue
	for _, q := range n.broker.Queues() {
		if e, _ := n.find(q.Name()); e != nil {
			out = append(out, e.describe())
		}
	}
	return out
}

// maxQueues is what a Standard namespace may have.
const maxQueues = 10_000

func (n namespace) Create(name string, said admin.Description) (admin.Queue, error) {
	if err := checkName(name); err != nil {
		return admin.Queue{}, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if e, _ := n.find(name); e != nil {
		return admin.Queue{}, admin.ErrExists
	}
	if len(n.broker.Queues()) >= maxQueues {
		return admin.Queue{}, fmt.Errorf("A namespace has up to %d queues.", maxQueues)
	}
	if err := errors.Join(said.Complete(n.cfg.Premium), n.checkForward(name, said)); err != nil {
		return admin.Queue{}, err
	}
	now := n.now()
	about := note{name, said, now, now}
	e := &entity{name: name, about: said, created: now, updated: now, saved: true}
	if err := n.saveNote(e); err != nil { // first, so that an acknowledged queue exists after a crash
		return admin.Queue{}, err
	}
	e, err := n.add(about, true)
	if err != nil {
		return admin.Queue{}, fmt.Errorf("%w: %w", admin.ErrInternal, err)
	}
	n.restartMovers(e)
	return e.describe(), nil
}

func (n namespace) Update(name string, said admin.Description) (admin.Queue, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	e, q := n.find(name)
	if e == nil || q != e.queue {
		return admin.Queue{}, admin.ErrNotFound
	}
	e.mu.Lock()
	old := e.about
	e.mu.Unlock()
	about, err := old.Update(said, n.cfg.Premium)
	if err = errors.Join(err, n.checkForward(name, about)); err != nil {
		return admin.Queue{}, err
	}
	e.mu.Lock()
	before := e.updated
	e.about, e.updated = about, n.now()
	if err = n.saveNote(e); err != nil {
		e.about, e.updated = old, before
	}
	e.mu.Unlock()
	if err != nil {
		return admin.Queue{}, err
	}
	e.queue.Change(options(about))
	e.force("amqp:link:detach-forced", "The link was closed because the entity '"+e.name+"' was updated.")
	n.restartMovers(e)
	return e.describe(), nil
}

func (n namespace) Delete(name string) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	e, q := n.find(name)
	if e == nil || q != e.queue {
		return admin.ErrNotFound
	}
	n.entities.Lock()
	delete(n.entities.all, strings.ToLower(e.name))
	n.entities.Unlock()
	e.stopMoving()
	if err := n.broker.Delete(q); err != nil && !errors.Is(err, queue.ErrGone) {
		return fmt.Errorf("%w: %w", admin.ErrInternal, err)
	}
	e.force("amqp:not-found", "The messaging entity '"+e.name+"' could not be found.")
	return nil
}

func (n namespace) Authorize(token, path string) (manage bool, err error) {
	rule, _, err := n.verifyToken(token, strings.ToLower(path))
	return rule.Manage && rule.Entities == nil, err
}

func (n namespace) Spend() error {
	if !n.rates.spendOn(ofAdministration, managementCost) {
		return admin.ErrThrottled
	}
	return nil
}
