package tables

import (
	"encoding/binary"
	"net/http"
	"strings"

	"go.etcd.io/bbolt"
)

// write is one change of an entity.
type write struct {
	kind   writeKind
	table  string
	entity *entity // for a delete: only the keys
	match  string  // If-Match; "" = none
	prefer string  // see preference
	view   view
}

type writeKind int

const (
	insertEntity writeKind = iota
	replaceEntity
	mergeEntity
	deleteEntity
)

func (w *write) key() []byte { return key(w.entity.partition, w.entity.row) }

// readWrite reads a write operation.
func (s *Server) readWrite(r request) (*write, *failure) {
	table, keys, bad := r.resource()
	if bad != nil {
		return nil, bad
	}
	if !tableName.MatchString(table) {
		return nil, errTableName
	}
	w := &write{table: table, match: r.header.Get("If-Match"), prefer: r.preference(), view: s.view(r, table), entity: &entity{}}
	switch {
	case r.merges():
		w.kind = mergeEntity
	case r.method == http.MethodPost:
		w.kind = insertEntity
	case r.method == http.MethodPut:
		w.kind = replaceEntity
	case r.method == http.MethodDelete && w.match == "":
		return nil, errNoMatch
	case r.method == http.MethodDelete:
		w.kind = deleteEntity
	default:
		return nil, errVerb
	}
	keyed := false
	if w.kind != deleteEntity {
		if w.entity, keyed, bad = readEntity(r.body); bad != nil {
			return nil, bad
		}
	}
	if w.kind == insertEntity {
		if keys != "" {
			return nil, errInput
		}
		if !keyed {
			return nil, errNoKeys
		}
		w.match = ""
		return w, w.checkGrant(r.grant)
	}
	// The keys of the URL count, even if the body has others.
	w.entity.partition, w.entity.row, bad = parseKeys(keys)
	if bad != nil {
		return nil, bad
	}
	if bad := w.checkGrant(r.grant); bad != nil {
		return nil, bad
	}
	return w, w.entity.check()
}

// checkGrant refuses a key that the bearer of a signature must not touch.
func (w *write) checkGrant(g *grant) *failure {
	if !g.covers(w.key()) {
		return errNotGranted
	}
	return nil
}

// apply performs writes to one table, all or none. Everything is checked before
// anything is written, so that a commit can be shared with others. When a write
// fails, its index is returned with the failure.
func (s *Server) apply(writes []*write) ([]reply, *failure, int) {
	var failed *failure
	var index int
	left := make([]*entity, len(writes)) // what each write leaves; nil for a delete
	err := s.db.Update(func(tx *bbolt.Tx) error {
		failed, index = nil, 0
		b := tx.Bucket(bucketOf(writes[0].table))
		if b == nil {
			failed = errNoTable
			return nil
		}
		for i, w := range writes {
			if left[i], failed = w.outcome(b); failed != nil {
				index = i
				return nil
			}
		}
		return s.put(tx, b, writes, left)
	})
	if err != nil {
		return nil, internalFailure(err), 0
	}
	if failed != nil {
		return nil, failed, index
	}
	s.written.Add(int64(len(writes)))
	replies := make([]reply, len(writes))
	for i, w := range writes {
		replies[i] = w.reply(left[i])
	}
	return replies, nil, 0
}

// put writes changes that have been checked.
func (s *Server) put(tx *bbolt.Tx, b *bbolt.Bucket, writes []*write, left []*entity) error {
	for i, w := range writes {
		if left[i] == nil {
			if err := b.Delete(w.key()); err != nil {
				return err
			}
			continue
		}
		left[i].ticks = s.clock.next()
		if err := b.Put(w.key(), left[i].pack()); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(ticksKey, binary.BigEndian.AppendUint64(nil, uint64(s.clock.last)))
}

// outcome is the entity after the write (nil for a delete), or why the write is
// refused.
func (w *write) outcome(b *bbolt.Bucket) (*entity, *failure) {
	k := w.key()
	stored := b.Get(k)
	switch {
	case stored == nil && w.match != "":
		return nil, errNotFound
	case stored == nil:
		return w.entity, nil
	case w.kind == insertEntity:
		return nil, errExists
	}
	version, ok := ticksIn(stored)
	switch {
	case !ok:
		return nil, errDamaged
	case w.match != "" && w.match != "*" && !sameETag(w.match, etagOf(version)):
		return nil, errCondition
	case w.kind == deleteEntity:
		return nil, nil
	case w.kind == replaceEntity:
		return w.entity, nil
	}
	old, err := unpack(k, stored)
	if err != nil {
		return nil, internalFailure(err)
	}
	merged := old.mergeWith(w.entity)
	return merged, merged.check()
}

// sameETag compares without regard to how the client escapes.
func sameETag(a, b string) bool {
	return a == b || strings.ReplaceAll(a, "%3a", "%3A") == b
}

// reply is the answer to the write. left is the entity after it.
func (w *write) reply(left *entity) reply {
	rep := reply{status: http.StatusNoContent}
	if left == nil {
		return rep
	}
	rep.etag = left.etag()
	if w.kind != insertEntity {
		return rep
	}
	rep.headers = preferenceApplied(w.prefer)
	if w.prefer == withoutContent {
		return rep
	}
	rep.status, rep.format = http.StatusCreated, w.view.format
	rep.body = w.view.appendEntity(make([]byte, 0, 512), left, w.view.context("/@Element"))
	return rep
}
