package queue

import (
	"encoding/binary"
	"sync"
	"time"

	"dsvmpools/local/disk"
)

// recentBucket holds the ids of messages sent within the window, by the time at
// which they are forgotten.
const recentBucket = "recent"

// forgetAtOnce bounds how many ids one commit forgets: a few more than it may
// bring.
const forgetAtOnce = 1024

// seen is an id and when it is forgotten, in unix nanoseconds.
type seen struct {
	id    string
	until int64
}

// recent holds the ids by which a queue finds duplicates.
type recent struct {
	window time.Duration

	// sending is held during the commit, because a message is a duplicate only if
	// the one before it was stored.
	sending sync.Mutex
	until   map[string]int64
	order   []seen // the oldest first
}

// sendOnce stores the messages whose ids were not seen within the window. The
// others are dropped, and have the number 0.
func (q *Queue) sendOnce(messages []New) ([]int64, error) {
	r := &q.recent
	r.sending.Lock()
	defer r.sending.Unlock()
	now := q.env.now()
	for len(r.order) > 0 && r.order[0].until <= now {
		delete(r.until, r.order[0].id)
		r.order = r.order[1:]
	}
	var fresh []New
	var ids []seen
	var places []int
	for i, m := range messages {
		if m.ID != "" {
			if _, dup := r.until[m.ID]; dup {
				continue
			}
			s := seen{m.ID, now + int64(r.window)}
			r.until[s.id] = s.until
			ids = append(ids, s)
		}
		fresh, places = append(fresh, m), append(places, i)
	}
	seqs := make([]int64, len(messages))
	if len(fresh) == 0 {
		return seqs, nil
	}
	got, err := q.send(fresh, ids)
	if err != nil {
		for _, s := range ids {
			delete(r.until, s.id)
		}
		return nil, err
	}
	r.order = append(r.order, ids...)
	for i, place := range places {
		seqs[place] = got[i]
	}
	return seqs, nil
}

// remember stores ids, and deletes those whose time is over. The sequence of the bucket is
// the time up to which they were deleted: a search from the beginning would pass over all
// that the store has deleted and its tree still has.
func (t tables) remember(ids []seen, window time.Duration) error {
	if len(ids) == 0 {
		return nil
	}
	b, err := t.root.CreateBucketIfNotExists([]byte(recentBucket))
	if err != nil {
		return err
	}
	for _, s := range ids {
		if err := b.Put(append(key(s.until), s.id...), nil); err != nil {
			return err
		}
	}
	now := ids[0].until - int64(window)
	from := min(int64(b.Sequence()), ids[0].until) // the clock may have been set back
	c := b.Cursor()
	k, _ := c.Seek(key(from))
	for n := 0; n < forgetAtOnce && k != nil && int64(binary.BigEndian.Uint64(k)) <= now; n++ {
		from = int64(binary.BigEndian.Uint64(k))
		if err := c.Delete(); err != nil {
			return err
		}
		k, _ = c.Next()
	}
	if uint64(from) == b.Sequence() {
		return nil
	}
	return b.SetSequence(uint64(from))
}

// load reads the stored ids.
func (r *recent) load(root *disk.Bucket) error {
	b := root.Bucket([]byte(recentBucket))
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, _ []byte) error {
		if len(k) < 8 {
			return errRecord
		}
		s := seen{string(k[8:]), int64(binary.BigEndian.Uint64(k))}
		r.until[s.id] = s.until
		r.order = append(r.order, s)
		return nil
	})
}
