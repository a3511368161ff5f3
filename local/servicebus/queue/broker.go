package queue

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/disk"
)

// DeadLetterSuffix is what the name of a dead-letter queue ends with.
const DeadLetterSuffix = "/$DeadLetterQueue"

// Config of a broker.
type Config struct {
	Path   string // store file
	Queues map[string]Options
	Now    func() time.Time
	// Mark writes into a message why the queue dead-letters it.
	Mark func(raw []byte, cause Cause) []byte
	// Warn reports an error for which no caller waits; the queue tries again.
	Warn func(queue string, err error)
}

// Broker holds the queues of a namespace in one file.
type Broker struct {
	disk *store
	env  *env

	mu     sync.RWMutex
	queues map[string]*Queue // by lower-case name
}

// Open opens the file and its queues. It leaves a queue alone that the file has
// and the configuration has not; the queue is there again when it is named again.
func Open(cfg Config) (*Broker, error) {
	db, err := disk.Open(cfg.Path)
	if err != nil {
		return nil, err
	}
	// From here on time goes on evenly, even if somebody sets the clock of the machine.
	base := cfg.Now()
	e := &env{now: func() int64 { return base.UnixNano() + int64(cfg.Now().Sub(base)) }, mark: cfg.Mark, warn: cfg.Warn}
	b := &Broker{disk: &store{db}, env: e, queues: map[string]*Queue{}}
	for name, opts := range cfg.Queues {
		if _, err := b.Add(name, opts); err != nil {
			b.Close()
			return nil, fmt.Errorf("%s: %w", cfg.Path, err)
		}
	}
	return b, nil
}

func newQueue(name string, opts Options, s *store, e *env) *Queue {
	return &Queue{name: name, key: strings.ToLower(name), opts: opts, disk: s, env: e,
		scheduled: heapOf[*item]{
			less: func(a, b *item) bool {
				if a.rare.scheduledAt != b.rare.scheduledAt {
					return a.rare.scheduledAt < b.rare.scheduledAt
				}
				return a.seq < b.seq
			},
			moved: func(it *item, place int) { it.rare.index = place },
		},
		ages:   heapOf[age]{less: func(a, b age) bool { return a.at < b.at }},
		recent: recent{window: opts.Duplicates, until: map[string]int64{}},
		parked: map[int64]*item{}, locks: map[Token]*lock{}, sessions: map[string]*Session{}, held: map[*Session]struct{}{}}
}

// load reads the facts of all messages.
func (q *Queue) load() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.disk.view(q, func(t tables) error {
		if t.facts == nil || t.bytes == nil || t.sessions == nil {
			return errRecord
		}
		q.lastSeq = int64(t.facts.Sequence())
		err := t.facts.ForEach(func(k, v []byte) error {
			if len(k) != 8 {
				return errRecord
			}
			it := &item{seq: int64(binary.BigEndian.Uint64(k))}
			id, err := it.parse(v)
			if err != nil {
				return err
			}
			if q.opts.Sessions {
				it.session = q.session(id)
				q.joinSession(it)
			}
			q.admitMessage(it)
			return nil
		})
		if err == nil && q.opts.Duplicates > 0 {
			err = q.recent.load(t.root)
		}
		if err != nil || !q.opts.Sessions {
			return err
		}
		return t.sessions.ForEach(func(k, v []byte) error {
			s := q.session(string(k[1:])) // the time of setting is not stored; it counts as set now
			s.state, s.stateAt = append([]byte(nil), v...), s.touched
			return nil
		})
	})
}

// Queue finds a queue, or a dead-letter queue, in any case of its name.
func (b *Broker) Queue(name string) *Queue {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.queues[strings.ToLower(name)]
}

// Close wakes all that wait, stops the timers and closes the file. Acknowledged
// changes are on disk already.
func (b *Broker) Close() error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, q := range b.queues {
		q.closeFor(ErrClosed)
	}
	return b.disk.db.Close()
}
