package tables

import (
	"encoding/binary"
	"net/http"
	"strings"

	"dsvmpools/local/disk"
)

// write is one change of an entity.
type write struct {
	kind   writeKind
	table  string
	key    []byte
	entity entity // for a delete: only the keys
	match  string // If-Match; "" = none
	prefer string // see preference
	view   view   // of an insert
}

type writeKind int

const (
	insertEntity writeKind = iota
	replaceEntity
	mergeEntity
	deleteEntity
)

// readWrite reads a write operation into w, which is zero. The slices in scratch are used
// again.
func (s *Server) readWrite(r *request, w *write, scratch *fieldsOf) *failure {
	table, keys, bad := r.resource()
	if bad != nil {
		return bad
	}
	if !tableName.MatchString(table) {
		return errTableName
	}
	if r.header.match != "" && !isETag(r.header.match) {
		return errInput
	}
	w.table, w.match, w.prefer = table, r.header.match, r.preference()
	switch {
	case r.merges():
		w.kind = mergeEntity
	case r.method == http.MethodPost:
		w.kind, w.view = insertEntity, s.view(r, table)
	case r.method == http.MethodPut:
		w.kind = replaceEntity
	case r.method == http.MethodDelete && w.match == "":
		return errNoMatch
	case r.method == http.MethodDelete:
		w.kind = deleteEntity
	default:
		return errVerb
	}
	var d document
	if w.kind != deleteEntity {
		if d, bad = readEntity(r.body, scratch); bad != nil {
			return bad
		}
	}
	if w.kind == insertEntity {
		switch {
		case keys != "":
			return errInput
		case !d.keyed:
			return errNoKeys
		}
		w.match = ""
	} else if d.partition, d.row, bad = parseKeys(keys); bad != nil { // those of the URL count, even if the body has others
		return bad
	}
	w.key = key(d.partition, d.row)
	n := len(d.partition)
	w.entity = entity{w.key[:n:n], w.key[n+1:], d.stored}
	if bad := w.checkGrant(r.grant); bad != nil || w.kind == deleteEntity {
		return bad
	}
	return w.entity.check()
}

// checkGrant refuses a key that the bearer of a signature must not touch.
func (w *write) checkGrant(g *grant) *failure {
	if !g.covers(w.key) {
		return errNotGranted
	}
	return nil
}

// apply performs writes to one table, all or none. Everything is checked before
// anything is written, so that a commit can be shared with others. When a write
// fails, its index is returned with the failure.
func (s *Server) apply(writes []write) ([]reply, *failure, int) {
	var failed *failure
	var index int
	left := make([]entity, len(writes)) // what each write leaves; zero for a delete
	err := s.db.Update(func(tx *disk.Tx) error {
		failed, index = nil, 0
		b := tx.Bucket(bucketOf(writes[0].table))
		if b == nil {
			failed = errNoTable
			return nil
		}
		for i := range writes {
			if left[i], failed = writes[i].outcome(b); failed != nil {
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
	for i := range writes {
		replies[i] = writes[i].reply(&left[i])
	}
	return replies, nil, 0
}

// put writes changes that have been checked.
func (s *Server) put(tx *disk.Tx, b *disk.Bucket, writes []write, left []entity) error {
	for i := range writes {
		if left[i].stored == nil {
			if err := b.Delete(writes[i].key); err != nil {
				return err
			}
			continue
		}
		binary.BigEndian.PutUint64(left[i].stored, uint64(s.clock.next()))
		if err := b.Put(writes[i].key, left[i].stored); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(ticksKey, binary.BigEndian.AppendUint64(nil, uint64(s.clock.last)))
}

// outcome is the entity after the write (zero for a delete), or why the write is
// refused.
func (w *write) outcome(b *disk.Bucket) (entity, *failure) {
	stored := b.Get(w.key)
	switch {
	case stored == nil && w.match != "":
		return entity{}, errNotFound
	case stored == nil:
		return w.entity, nil
	case w.kind == insertEntity:
		return entity{}, errExists
	}
	version, ok := ticksIn(stored)
	switch {
	case !ok:
		return entity{}, errDamaged
	case w.match != "" && w.match != "*" && !sameETag(w.match, version):
		return entity{}, errCondition
	case w.kind == deleteEntity:
		return entity{}, nil
	case w.kind == replaceEntity:
		return w.entity, nil
	}
	old := entity{w.entity.partition, w.entity.row, stored}
	merged, err := old.mergeWith(&w.entity)
	if err != nil {
		return entity{}, internalFailure(err)
	}
	return merged, merged.check()
}

// isETag reports whether a condition has the form of one: any version, or an entity tag.
func isETag(text string) bool {
	quoted, ok := strings.CutPrefix(strings.TrimPrefix(text, "W/"), `"`)
	return text == "*" || ok && strings.IndexByte(quoted, '"') == len(quoted)-1
}

// sameETag reports whether a condition names a version, without regard to how the client
// escapes.
func sameETag(match string, version int64) bool {
	var text [48]byte
	etag := appendETag(text[:0], version)
	return match == string(etag) || strings.ReplaceAll(match, "%3a", "%3A") == string(etag)
}

// reply is the answer to the write. left is the entity after it.
func (w *write) reply(left *entity) reply {
	rep := reply{status: http.StatusNoContent}
	if left.stored == nil {
		return rep
	}
	rep.version = left.ticks()
	if w.kind != insertEntity {
		return rep
	}
	rep.applied = w.prefer
	if w.prefer == withoutContent {
		return rep
	}
	rep.status, rep.format = http.StatusCreated, w.view.format
	// It was just written, so it is not damaged.
	rep.body, _ = w.view.appendEntity(make([]byte, 0, 256+2*len(left.stored)), left, w.view.context("/@Element"))
	return rep
}
