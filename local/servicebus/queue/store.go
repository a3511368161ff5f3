package queue

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"dsvmpools/local/disk"

	"go.etcd.io/bbolt"
)

// Buckets of a queue: facts of a message and its bytes lie apart, so that a
// count can change without rewriting the bytes; both are keyed by number.
const (
	factsBucket   = "facts"
	bytesBucket   = "bytes"
	sessionBucket = "sessions"
)

// store is the disk side of all queues of a broker.
type store struct{ db *disk.DB }

// facts is what is stored of an item.
type facts struct {
	EnqueuedSeq int64      `json:"q,omitempty"`
	Enqueued    time.Time  `json:"t"`
	ScheduledAt *time.Time `json:"at,omitempty"`
	Expires     *time.Time `json:"x,omitempty"`
	State       State      `json:"s,omitempty"`
	Count       uint32     `json:"c,omitempty"`
	Session     *string    `json:"sid,omitempty"`
	DeadFrom    string     `json:"d,omitempty"`
	Size        int        `json:"n"`
}

func key(seq int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(seq)) }

func encode(it *item) ([]byte, error) {
	f := facts{EnqueuedSeq: it.enqueuedSeq, Enqueued: it.enqueued, State: it.state, Count: it.count, DeadFrom: it.deadFrom, Size: it.size}
	if !it.scheduledAt.IsZero() {
		f.ScheduledAt = &it.scheduledAt
	}
	if !it.expires.IsZero() {
		f.Expires = &it.expires
	}
	if it.session != nil {
		f.Session = &it.session.ID
	}
	return json.Marshal(f)
}

// buckets returns a queue's buckets, made at first use.
func buckets(tx *bbolt.Tx, q *Queue) (facts, bytes *bbolt.Bucket, err error) {
	root := tx.Bucket([]byte(q.name))
	if root == nil {
		if root, err = tx.CreateBucket([]byte(q.name)); err != nil {
			return nil, nil, err
		}
		for _, name := range []string{factsBucket, bytesBucket, sessionBucket} {
			if _, err = root.CreateBucket([]byte(name)); err != nil {
				return nil, nil, err
			}
		}
	}
	return root.Bucket([]byte(factsBucket)), root.Bucket([]byte(bytesBucket)), nil
}

// write puts an item; the bucket's sequence keeps numbers from being given
// twice after everything was taken.
func write(tx *bbolt.Tx, q *Queue, it *item, record, raw []byte) error {
	f, b, err := buckets(tx, q)
	if err != nil {
		return err
	}
	if uint64(it.seq) > f.Sequence() {
		if err := f.SetSequence(uint64(it.seq)); err != nil {
			return err
		}
	}
	if err := f.Put(key(it.seq), record); err != nil || raw == nil {
		return err
	}
	return b.Put(key(it.seq), raw)
}

func erase(tx *bbolt.Tx, q *Queue, seq int64) error {
	f, b, err := buckets(tx, q)
	if err != nil {
		return err
	}
	if err := f.Delete(key(seq)); err != nil {
		return err
	}
	return b.Delete(key(seq))
}

func (s *store) put(q *Queue, items []*item, messages []New) error {
	records := make([][]byte, len(items))
	for i, it := range items {
		var err error
		if records[i], err = encode(it); err != nil {
			return err
		}
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for i, it := range items {
			if err := write(tx, q, it, records[i], messages[i].Raw); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) remove(q *Queue, items []*item) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, it := range items {
			if err := erase(tx, q, it.seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// update changes an item's facts, and its bytes unless raw is nil.
func (s *store) update(q *Queue, it *item, count uint32, state State, raw []byte) error {
	copied := *it
	copied.count, copied.state = count, state
	record, err := encode(&copied)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return write(tx, q, it, record, raw) })
}

func (s *store) move(from *Queue, it *item, to *Queue, moved *item, m New) error {
	record, err := encode(moved)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := write(tx, to, moved, record, m.Raw); err != nil {
			return err
		}
		return erase(tx, from, it.seq)
	})
}

func (s *store) renumber(q *Queue, old, fresh []*item) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		_, b, err := buckets(tx, q)
		if err != nil {
			return err
		}
		for i, it := range old {
			raw := append([]byte(nil), b.Get(key(it.seq))...)
			record, err := encode(fresh[i])
			if err != nil {
				return err
			}
			if err := write(tx, q, fresh[i], record, raw); err != nil {
				return err
			}
			if err := erase(tx, q, it.seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// raw reads the bytes of items.
func (s *store) raw(q *Queue, items []*item) ([][]byte, error) {
	out := make([][]byte, len(items))
	err := s.db.View(func(tx *bbolt.Tx) error {
		root := tx.Bucket([]byte(q.name))
		if root == nil {
			return ErrNotFound
		}
		b := root.Bucket([]byte(bytesBucket))
		for i, it := range items {
			v := b.Get(key(it.seq))
			if v == nil {
				return fmt.Errorf("%w: number %d", ErrNotFound, it.seq)
			}
			out[i] = append([]byte(nil), v...)
		}
		return nil
	})
	return out, err
}

func (s *store) setState(q *Queue, id string, state []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if _, _, err := buckets(tx, q); err != nil {
			return err
		}
		b := tx.Bucket([]byte(q.name)).Bucket([]byte(sessionBucket))
		k := append([]byte{'s'}, id...) // a key may not be empty, a session id may
		if len(state) == 0 {
			return b.Delete(k)
		}
		return b.Put(k, state)
	})
}

// Broker holds the queues of a namespace in one file.
type Broker struct {
	disk   *store
	queues map[string]*Queue // by lower-case name
}

// Open opens the file and its queues. Queues that the file has and defs does
// not are left alone, and are there again when they are named again.
func Open(path string, defs map[string]Options, now func() time.Time) (*Broker, error) {
	db, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	b := &Broker{disk: &store{db}, queues: map[string]*Queue{}}
	for name, opts := range defs {
		name = strings.ToLower(name)
		q := newQueue(name, opts, b.disk, now)
		deadOpts := opts
		deadOpts.Sessions, deadOpts.DefaultTTL = false, 0
		q.dead = newQueue(name+"/$deadletterqueue", deadOpts, b.disk, now)
		b.queues[name], b.queues[q.dead.name] = q, q.dead
	}
	for _, q := range b.queues {
		if err := q.load(); err != nil {
			db.Close()
			return nil, fmt.Errorf("%s: queue %s: %w", path, q.name, err)
		}
	}
	return b, nil
}

func newQueue(name string, opts Options, s *store, now func() time.Time) *Queue {
	return &Queue{name: name, opts: opts, disk: s, now: now, all: map[int64]*item{}, ready: heapOf{less: bySeq},
		scheduled: heapOf{less: byTime}, locks: map[Token]*item{}, sessions: map[string]*Session{}, waiters: map[*Waiter]struct{}{}}
}

// load reads the facts of all messages. The lock is not needed: nobody else has
// the queue yet.
func (q *Queue) load() error {
	err := q.disk.db.View(func(tx *bbolt.Tx) error {
		root := tx.Bucket([]byte(q.name))
		if root == nil {
			return nil
		}
		f := root.Bucket([]byte(factsBucket))
		q.lastSeq = int64(f.Sequence())
		err := f.ForEach(func(k, v []byte) error {
			var rec facts
			if err := json.Unmarshal(v, &rec); err != nil || len(k) != 8 {
				return fmt.Errorf("the record of a message cannot be read; the file is damaged: %w", err)
			}
			it := &item{seq: int64(binary.BigEndian.Uint64(k)), enqueuedSeq: rec.EnqueuedSeq, enqueued: rec.Enqueued, state: rec.State,
				count: rec.Count, deadFrom: rec.DeadFrom, size: rec.Size, index: -1}
			if rec.ScheduledAt != nil {
				it.scheduledAt = *rec.ScheduledAt
			}
			if rec.Expires != nil {
				it.expires = *rec.Expires
			}
			if rec.Session != nil {
				it.session = q.session(*rec.Session)
			} else if q.opts.Sessions {
				it.session = q.session("")
			}
			q.admit(it)
			return nil
		})
		if err != nil {
			return err
		}
		return root.Bucket([]byte(sessionBucket)).ForEach(func(k, v []byte) error {
			q.session(string(k[1:])).state = append([]byte(nil), v...)
			return nil
		})
	})
	if err == nil {
		q.arm()
	}
	return err
}

// Queue finds a queue, or a dead-letter queue, whatever the case of its name.
func (b *Broker) Queue(name string) *Queue { return b.queues[strings.ToLower(name)] }

// Names lists the queues, without the dead-letter queues.
func (b *Broker) Names() []string {
	var names []string
	for name, q := range b.queues {
		if q.dead != nil {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Close stops the timers and closes the file; what was acknowledged is on disk
// already.
func (b *Broker) Close() error {
	for _, q := range b.queues {
		q.mu.Lock()
		q.closed = true
		if q.timer != nil {
			q.timer.Stop()
		}
		q.mu.Unlock()
	}
	return b.disk.db.Close()
}
