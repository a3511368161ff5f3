package queue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dsvmpools/local/disk"
)

// Errors of calls on a whole queue.
var (
	ErrExists = errors.New("the queue exists")
	ErrGone   = errors.New("the queue was deleted")
)

// catalogBucket holds the notes of the caller about queues that were created at
// run time, by name. No name of a queue begins like this.
const catalogBucket = "$catalog"

// Notes returns the notes about created queues, by name.
func (b *Broker) Notes() (map[string][]byte, error) {
	notes := map[string][]byte{}
	err := b.disk.db.View(func(tx *disk.Tx) error {
		c := tx.Bucket([]byte(catalogBucket))
		if c == nil {
			return nil
		}
		return c.ForEach(func(k, v []byte) error {
			notes[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return notes, err
}

// Note stores the note of the caller about a created queue.
func (b *Broker) Note(name string, note []byte) error {
	return b.disk.db.Update(func(tx *disk.Tx) error {
		c, err := tx.CreateBucketIfNotExists([]byte(catalogBucket))
		if err != nil {
			return err
		}
		return c.Put([]byte(strings.ToLower(name)), note)
	})
}

// Add makes a queue, with the messages that the store has of it. Its options are
// not stored; the caller adds the queue again after a restart.
func (b *Broker) Add(name string, opts Options) (*Queue, error) {
	q := newQueue(name, opts, b.disk, b.env)
	opts.Sessions, opts.DefaultTTL, opts.Duplicates = false, 0, 0
	q.dead = newQueue(name+DeadLetterSuffix, opts, b.disk, b.env)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queues[q.key] != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrExists)
	}
	for _, q := range []*Queue{q.dead, q} {
		if err := q.load(); err != nil {
			return nil, fmt.Errorf("queue %s: %w", q.name, err)
		}
	}
	b.queues[q.key], b.queues[q.dead.key] = q, q.dead
	return q, nil
}

// Delete deletes a queue with its messages and its note.
func (b *Broker) Delete(q *Queue) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queues[q.key] != q || q.dead == nil {
		return ErrGone
	}
	for _, q := range []*Queue{q, q.dead} {
		q.closeFor(ErrGone)
		q.deleted.Store(true)
	}
	err := b.disk.db.Update(func(tx *disk.Tx) error {
		for _, key := range []string{q.key, q.dead.key} {
			if tx.Bucket([]byte(key)) == nil {
				continue
			}
			if err := tx.DeleteBucket([]byte(key)); err != nil {
				return err
			}
		}
		if c := tx.Bucket([]byte(catalogBucket)); c != nil {
			return c.Delete([]byte(q.key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	delete(b.queues, q.key)
	delete(b.queues, q.dead.key)
	return nil
}

// Queues returns the queues by name, without the dead-letter queues.
func (b *Broker) Queues() []*Queue {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []*Queue
	for _, key := range slices.Sorted(maps.Keys(b.queues)) {
		if q := b.queues[key]; q.dead != nil {
			out = append(out, q)
		}
	}
	return out
}

// Change gives the queue other options from now on. Sessions and the window for
// duplicates cannot change.
func (q *Queue) Change(opts Options) {
	for _, q := range []*Queue{q, q.dead} {
		q.mu.Lock()
		q.opts.LockDuration, q.opts.MaxDeliveryCount, q.opts.DeadLetterExpired = opts.LockDuration, opts.MaxDeliveryCount, opts.DeadLetterExpired
		if q.dead != nil {
			q.opts.DefaultTTL = opts.DefaultTTL
		}
		q.mu.Unlock()
	}
}

// closeFor closes the queue: all callers get err.
func (q *Queue) closeFor(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = err
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, r := range q.waiting {
		r.signal()
	}
	for s := range q.held {
		s.holder.signal()
	}
	for ; len(q.acceptors) > 0; q.acceptors = q.acceptors[1:] {
		q.acceptors[0].c <- struct{}{}
	}
}

// Bytes is the size of the messages of the queue, as they were sent.
func (q *Queue) Bytes() (n int64) {
	_ = q.disk.view(q, func(t tables) error { // a queue that is closing counts as empty
		return t.bytes.ForEach(func(_, v []byte) error {
			n += int64(len(v))
			return nil
		})
	})
	return n
}
