package queue

import (
	"encoding/binary"
	"fmt"

	"dsvmpools/local/disk"
)

// Buckets of a queue. The facts and the bytes of a message are apart, so that a
// count can change without a rewrite of the bytes, and so that all facts can be
// read without the bytes. Both have the number as their key.
const (
	factsBucket   = "facts"
	bytesBucket   = "bytes"
	sessionBucket = "sessions"
)

// store is the disk side of all queues of a broker.
type store struct{ db *disk.DB }

func key(seq int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(seq)) }

// tables are the buckets of one queue in one transaction.
type tables struct{ root, facts, bytes, sessions *disk.Bucket }

// tables opens a queue's buckets, made at first use.
func (q *Queue) tables(tx *disk.Tx) (t tables, err error) {
	root := tx.Bucket([]byte(q.key))
	if root == nil {
		if root, err = tx.CreateBucket([]byte(q.key)); err != nil {
			return t, err
		}
		for _, name := range []string{factsBucket, bytesBucket, sessionBucket} {
			if _, err = root.CreateBucket([]byte(name)); err != nil {
				return t, err
			}
		}
	}
	t = tables{root, root.Bucket([]byte(factsBucket)), root.Bucket([]byte(bytesBucket)), root.Bucket([]byte(sessionBucket))}
	if t.facts == nil || t.bytes == nil || t.sessions == nil {
		return t, fmt.Errorf("the store of queue %s is not complete; restore its file from a copy, together with what is beside it, "+
			"or begin with an empty folder (`dsvm up --data DIR`)", q.name)
	}
	return t, nil
}

// write puts an item. The sequence of the bucket makes sure that no number is used
// twice, even when the queue was empty. A nil raw leaves the bytes.
func (t tables) write(it *item, record, raw []byte) error {
	if uint64(it.seq) > t.facts.Sequence() {
		if err := t.facts.SetSequence(uint64(it.seq)); err != nil {
			return err
		}
	}
	if err := t.facts.Put(key(it.seq), record); err != nil || raw == nil {
		return err
	}
	return t.bytes.Put(key(it.seq), raw)
}

func (t tables) erase(seq int64) error {
	if err := t.facts.Delete(key(seq)); err != nil {
		return err
	}
	return t.bytes.Delete(key(seq))
}

// get copies a message's bytes.
func (t tables) get(seq int64) ([]byte, error) {
	v := t.bytes.Get(key(seq))
	if v == nil {
		return nil, fmt.Errorf("%w: number %d is not in the store", ErrNotFound, seq)
	}
	return append([]byte(nil), v...), nil
}

// update runs fn with the queue's buckets in a write transaction.
func (s *store) update(q *Queue, fn func(*disk.Tx, tables) error) error {
	return s.db.Update(func(tx *disk.Tx) error {
		if q.deleted.Load() {
			return ErrGone
		}
		t, err := q.tables(tx)
		if err != nil {
			return err
		}
		return fn(tx, t)
	})
}

func (s *store) put(q *Queue, items []*item, messages []New, ids []seen) error {
	records := make([][]byte, len(items))
	for i, it := range items {
		records[i] = it.record(it.count, it.state)
	}
	return s.update(q, func(_ *disk.Tx, t tables) error {
		for i, it := range items {
			if err := t.write(it, records[i], messages[i].Raw); err != nil {
				return err
			}
		}
		return t.remember(ids, q.recent.window)
	})
}

// apply performs changes, all or none.
func (s *store) apply(q *Queue, changes []*change) error {
	return s.update(q, func(tx *disk.Tx, t tables) error {
		var dead tables
		for _, c := range changes {
			if c.moved != nil && dead.facts == nil {
				var err error
				if dead, err = q.dead.tables(tx); err != nil {
					return err
				}
			}
			if err := c.apply(t, dead); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *change) apply(t, dead tables) error {
	var raw []byte
	if c.edit != nil || c.moved != nil {
		var err error
		if raw, err = t.get(c.it.seq); err != nil {
			return err
		}
		if c.edit != nil {
			raw = c.edit(raw)
		}
	}
	if c.moved != nil {
		if err := dead.write(c.moved, c.moved.record(c.moved.count, Active), raw); err != nil {
			return err
		}
		return t.erase(c.it.seq)
	}
	if c.erase {
		return t.erase(c.it.seq)
	}
	return t.write(c.it, c.it.record(c.count, c.state), raw)
}

// recount stores delivery counts. It skips a message that was settled meanwhile,
// and one whose stored count is higher.
func (s *store) recount(q *Queue, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	return s.update(q, func(_ *disk.Tx, t tables) error {
		for _, it := range items {
			var old item
			v := t.facts.Get(key(it.seq))
			if v == nil {
				continue
			}
			if _, err := old.parse(v); err != nil {
				return err
			}
			q.mu.Lock()
			count := it.count
			q.mu.Unlock()
			if count <= old.count {
				continue
			}
			if err := t.facts.Put(key(it.seq), it.record(count, old.state)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) renumber(q *Queue, old, fresh []*item) error {
	return s.update(q, func(_ *disk.Tx, t tables) error {
		for i, it := range old {
			raw, err := t.get(it.seq)
			if err != nil {
				return err
			}
			if err := t.write(fresh[i], fresh[i].record(fresh[i].count, Active), raw); err != nil {
				return err
			}
			if err := t.erase(it.seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// read fills in the bytes of messages.
func (s *store) read(q *Queue, messages []*Message) error {
	return s.view(q, func(t tables) error {
		for _, m := range messages {
			var err error
			if m.Raw, err = t.get(m.Seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// readAndErase fills in the bytes of messages and deletes them.
func (s *store) readAndErase(q *Queue, messages []*Message) error {
	return s.update(q, func(_ *disk.Tx, t tables) error {
		for _, m := range messages {
			var err error
			if m.Raw, err = t.get(m.Seq); err != nil {
				return err
			}
			if err := t.erase(m.Seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// view runs fn with the committed data. It does not call fn for a queue that never
// had a message.
func (s *store) view(q *Queue, fn func(tables) error) error {
	return s.db.View(func(tx *disk.Tx) error {
		root := tx.Bucket([]byte(q.key))
		if root == nil {
			return nil
		}
		return fn(tables{root, root.Bucket([]byte(factsBucket)), root.Bucket([]byte(bytesBucket)), root.Bucket([]byte(sessionBucket))})
	})
}

func (s *store) setState(q *Queue, id string, state []byte) error {
	return s.update(q, func(_ *disk.Tx, t tables) error {
		k := append([]byte{'s'}, id...) // a key may not be empty, a session id may
		if len(state) == 0 {
			return t.sessions.Delete(k)
		}
		return t.sessions.Put(k, state)
	})
}

// Peek returns messages from a number on, in order, and leaves them: up to n, and
// no more than fit into size bytes, but at least one. session nil means all
// sessions.
func (q *Queue) Peek(from int64, n, size int, session *string) ([]*Message, error) {
	now := q.env.now()
	var out []*Message
	err := q.disk.view(q, func(t tables) error {
		c := t.facts.Cursor()
		for k, v := c.Seek(key(max(from, 0))); k != nil && len(out) < n; k, v = c.Next() {
			it := item{seq: int64(binary.BigEndian.Uint64(k))}
			id, err := it.parse(v)
			if err != nil {
				return err
			}
			if session != nil && id != *session || it.state == Active && it.expires != 0 && it.expires < now {
				continue
			}
			m := q.messageOf(&it)
			if m.Raw, err = t.get(it.seq); err != nil {
				return err
			}
			if size -= len(m.Raw); size < 0 && len(out) > 0 {
				return nil
			}
			out = append(out, m)
		}
		return nil
	})
	return out, err
}
