package servicebus

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/local/servicebus/admin"
	"dsvmpools/local/servicebus/queue"
)

// entity is a queue of the namespace: the queue of the engine, with its description
// and its links.
type entity struct {
	name     string
	queue    *queue.Queue
	created  time.Time
	accessed atomic.Int64 // unix nanoseconds; 0: never
	saved    bool         // created at run time: the store holds a note of it

	sessions, once, partitioned bool // fixed when it was made

	mu      sync.Mutex
	about   admin.Description
	updated time.Time
	links   map[forcible]struct{}
	movers  []*mover
}

// forcible is a link that the server can end.
type forcible interface {
	force(condition, description string)
}

// note is what the store keeps about a queue that was created at run time.
type note struct {
	Name    string
	About   admin.Description
	Created time.Time
	Updated time.Time
}

// find looks up an address: a queue, or the dead-letter queue of one.
func (s *Server) find(address string) (*entity, *queue.Queue) {
	q := s.broker.Queue(address)
	if q == nil {
		return nil, nil
	}
	base := strings.ToLower(q.Name())
	if q.DeadLetters() == nil {
		base = strings.TrimSuffix(base, strings.ToLower(queue.DeadLetterSuffix))
	}
	s.entities.RLock()
	defer s.entities.RUnlock()
	e := s.entities.all[base]
	if e == nil {
		return nil, nil
	}
	return e, q
}

// registry is the entities by lower-case name.
type registry struct {
	sync.RWMutex
	all map[string]*entity
}

// endless is the shortest time to live that counts as unlimited; a later date does
// not fit into nanoseconds.
const endless = 100 * 365 * 24 * time.Hour

// options converts a description to the options of the engine.
func options(d admin.Description) queue.Options {
	span := func(s *string) time.Duration { // checked before
		v, _ := admin.Duration(*s)
		return v
	}
	o := queue.Options{Sessions: *d.RequiresSession, LockDuration: span(d.LockDuration), MaxDeliveryCount: uint32(*d.MaxDeliveryCount),
		DefaultTTL: span(d.DefaultMessageTimeToLive), DeadLetterExpired: *d.DeadLetteringOnMessageExpiration}
	if o.DefaultTTL > endless {
		o.DefaultTTL = 0
	}
	if *d.RequiresDuplicateDetection {
		o.Duplicates = span(d.DuplicateDetectionHistoryTimeWindow)
	}
	return o
}

// describe is a configured queue as the administration describes it.
func (q QueueConfig) describe() admin.Description {
	lock, deliveries, ttl := q.LockDuration, int32(q.MaxDeliveryCount), admin.Text(q.DefaultTTL)
	if lock == 0 {
		lock = defaultLock
	}
	if deliveries == 0 {
		deliveries = defaultMaxDeliveries
	}
	duration, duplicates, window := admin.Text(lock), q.DuplicateWindow > 0, admin.Text(max(q.DuplicateWindow, minWindow))
	d := admin.Description{
		RequiresSession:                     &q.RequiresSession,
		LockDuration:                        &duration,
		MaxDeliveryCount:                    &deliveries,
		DefaultMessageTimeToLive:            &ttl,
		DeadLetteringOnMessageExpiration:    &q.DeadLetterExpired,
		RequiresDuplicateDetection:          &duplicates,
		DuplicateDetectionHistoryTimeWindow: &window,
	}
	if q.ForwardTo != "" {
		d.ForwardTo = &q.ForwardTo
	}
	if q.ForwardDeadLettersTo != "" {
		d.ForwardDeadLetteredMessagesTo = &q.ForwardDeadLettersTo
	}
	return d
}

// namePattern is what the resource manager takes for the name of a queue.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.~/-]*[A-Za-z0-9_])?$`)

func checkName(name string) error {
	if len(name) > maxNameLength || !namePattern.MatchString(name) {
		return fmt.Errorf("%q is no name for a queue: it has 1 to %d letters, digits and characters of .-_~/ and begins and ends with "+
			"a letter, a digit or _", name, maxNameLength)
	}
	return nil
}

// checkForward checks that the target queues exist. A queue may be configured before
// its target.
func (s *Server) checkForward(name string, d admin.Description) error {
	for _, to := range []*string{d.ForwardTo, d.ForwardDeadLetteredMessagesTo} {
		if to == nil {
			continue
		}
		path := entityPath(*to)
		if _, q := s.find(path); q == nil || q.DeadLetters() == nil || strings.EqualFold(path, name) {
			return fmt.Errorf("The queue '%s' cannot be forwarded to; it has to be there, and another one.", path)
		}
	}
	return nil
}

// add makes an entity; its description must be complete.
func (s *Server) add(n note, saved bool) (*entity, error) {
	q, err := s.broker.Add(n.Name, options(n.About))
	if errors.Is(err, queue.ErrExists) {
		return nil, admin.ErrExists
	}
	if err != nil {
		return nil, err
	}
	e := &entity{
		name:        n.Name,
		queue:       q,
		about:       n.About,
		created:     n.Created,
		updated:     n.Updated,
		saved:       saved,
		links:       map[forcible]struct{}{},
		sessions:    *n.About.RequiresSession,
		once:        *n.About.RequiresDuplicateDetection,
		partitioned: *n.About.EnablePartitioning,
	}
	s.entities.Lock()
	s.entities.all[strings.ToLower(n.Name)] = e
	s.entities.Unlock()
	return e, nil
}

// restoreQueues adds the queues that were created while an earlier server ran.
func (s *Server) restoreQueues() error {
	notes, err := s.broker.Notes()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		var n note
		if err := json.Unmarshal(notes[name], &n); err != nil {
			return fmt.Errorf("the note of queue %s in the store cannot be read: %w", name, err)
		}
		if _, err := s.add(n, true); err != nil && !errors.Is(err, admin.ErrExists) { // configured now: then the configuration wins
			return err
		}
	}
	return nil
}

// saveNote stores the note of an entity. e.mu is held.
func (s *Server) saveNote(e *entity) error {
	if !e.saved {
		return nil
	}
	b, err := json.Marshal(note{e.name, e.about, e.created, e.updated})
	if err == nil {
		err = s.broker.Note(e.name, b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", admin.ErrInternal, err)
	}
	return nil
}

// touch records that somebody used the queue.
func (e *entity) touch(now time.Time) { e.accessed.Store(now.UnixNano()) }

// addLink adds a link that ends when the queue changes or is deleted.
func (e *entity) addLink(l forcible) {
	e.mu.Lock()
	e.links[l] = struct{}{}
	e.mu.Unlock()
}

func (e *entity) removeLink(l forcible) {
	if e == nil {
		return
	}
	e.mu.Lock()
	delete(e.links, l)
	e.mu.Unlock()
}

// force ends all links.
func (e *entity) force(condition, description string) {
	e.mu.Lock()
	all := slices.Collect(maps.Keys(e.links))
	e.mu.Unlock()
	for _, l := range all {
		l.force(condition, description)
	}
}

// enabled reports whether the status of the queue allows sending, or receiving.
func (e *entity) enabled(send bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch *e.about.Status {
	case admin.Disabled:
		return false
	case admin.SendDisabled:
		return !send
	case admin.ReceiveDisabled:
		return send
	}
	return true
}

// forwards reports whether the messages of q, which is the queue or its dead-letter queue,
// go on to another queue. Nobody receives them here.
func (e *entity) forwards(q *queue.Queue) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q == e.queue {
		return e.about.ForwardTo != nil
	}
	return e.about.ForwardDeadLetteredMessagesTo != nil
}

// maxMessage is the largest message of the queue, in bytes.
func (e *entity) maxMessage() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return int(*e.about.MaxMessageSizeInKilobytes) << 10
}

// accessKey finds a key of this queue alone.
func (e *entity) accessKey(name string) (r AccessKey, keys []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.about.AuthorizationRules {
		if a.KeyName == name {
			all := slices.Contains(a.Rights, "Manage")
			right := Right{Send: all || slices.Contains(a.Rights, "Send"), Listen: all || slices.Contains(a.Rights, "Listen")}
			return AccessKey{Name: name, Entities: map[string]Right{strings.ToLower(e.name): right}}, []string{a.PrimaryKey, a.SecondaryKey}
		}
	}
	return AccessKey{}, nil
}
