package tables

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"

	"dsvmpools/local/disk"
)

// Bounds on the work for one page. A page that reaches a bound ends early, even
// empty, and says where to go on. The service does the same after five seconds.
const (
	maxExamined   = 10_000  // entities
	maxPageBytes  = 4 << 20 // of the answer
	examinedCheck = 256     // entities between two looks at whether the client is still there
)

// get reads one entity.
func (s *Server) get(r *request, table, keys string) (reply, *failure) {
	partition, row, bad := parseKeys(keys)
	if bad != nil {
		return reply{}, bad
	}
	s.reads.Add(1)
	if bad := s.rates.take(ofReads, table, partition, 1); bad != nil {
		return reply{}, bad
	}
	v := s.view(r, table)
	rep := reply{status: http.StatusOK, format: v.format}
	err := s.db.View(func(tx *disk.Tx) error {
		b := tx.Bucket(bucketOf(table))
		if b == nil {
			return errNoTable
		}
		k := key(partition, row)
		stored := b.Get(k)
		if stored == nil || !r.grant.covers(k) {
			return errNotFound
		}
		e, err := entityIn(k, stored)
		if err != nil {
			return err
		}
		rep.version = e.ticks()
		rep.body, err = v.appendEntity(make([]byte, 0, 256+2*len(stored)), &e, v.context("/@Element"))
		return err
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	return rep, nil
}

// query lists entities in order, from where the last page ended.
func (s *Server) query(r *request, table string) (reply, *failure) {
	s.queries.Add(1)
	match, bad := parseFilter(r.query.Get("$filter"))
	if bad != nil {
		return reply{}, bad
	}
	top, bad := r.top()
	if bad != nil {
		return reply{}, bad
	}
	from, again, bad := r.readContinuation()
	if bad == nil {
		bad = s.rates.page(0)
	}
	if bad != nil {
		return reply{}, bad
	}
	v := s.view(r, table)
	page := newPage(&v)
	if s.cfg.CloudRates && from != nil && !again && isDrawn(string(from), emptyShare) {
		return page.reply(from, emptyMark), nil
	}
	var next []byte // key of the first entity that was not examined
	var partition string
	var e looked
	err := s.db.View(func(tx *disk.Tx) error {
		b := tx.Bucket(bucketOf(table))
		if b == nil {
			return errNoTable
		}
		examined := 0
		var err error
		next, err = scan(b.Cursor(), r.grant.narrow(match.spans()), from, func(k, stored []byte) (bool, error) {
			if examined++; examined > maxExamined || page.count == top || len(page.b) > maxPageBytes {
				return false, nil
			}
			if s.cfg.CloudRates && rangeEnds(&partition, k) {
				return false, nil
			}
			if examined%examinedCheck == 0 && r.ctx.Err() != nil {
				return false, r.ctx.Err()
			}
			var err error
			if e.entity, err = entityIn(k, stored); err != nil {
				return true, err
			}
			if holds, err := match.holds(&e); !holds || err != nil {
				return true, err
			}
			page.next()
			page.b, err = v.appendEntity(page.b, &e.entity, "")
			return true, err
		})
		return err
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	_ = s.rates.page(page.count)
	return page.reply(next, tokenMark), nil
}

// rangeEnds reports whether a range of partitions of the service would end
// before a key; partition is that of the key before, "" at first.
func rangeEnds(partition *string, k []byte) bool {
	p, _, _ := strings.Cut(string(k), "\x00")
	before := *partition
	*partition = p
	return before != "" && before != p && isDrawn(p, rangeShare)
}

// reply is the page as an answer. next is where to go on; nil: this was the last page.
func (p *page) reply(next []byte, mark string) reply {
	rep := reply{status: http.StatusOK, format: p.format, body: p.end()}
	if next != nil {
		partition, row, _ := bytes.Cut(next, []byte{0})
		rep.headers = map[string]string{
			"x-ms-continuation-NextPartitionKey": token(mark, partition),
			"x-ms-continuation-NextRowKey":       token(mark, row),
		}
	}
	return rep
}

// scan calls visit for each stored entity in the spans, in order, from a key on,
// until visit returns false. It returns the key at which it stopped, nil at the end.
func scan(c *disk.Cursor, spans []span, from []byte, visit func(k, stored []byte) (bool, error)) ([]byte, error) {
	for _, in := range spans {
		start := in.from
		if string(from) > start {
			start = string(from)
		}
		for k, stored := c.Seek([]byte(start)); k != nil && in.before(k); k, stored = c.Next() {
			on, err := visit(k, stored)
			if err != nil {
				return nil, err
			}
			if !on {
				return bytes.Clone(k), nil
			}
		}
	}
	return nil, nil
}

// tokenMark begins every continuation token, so that it is never empty and a
// key is not mistaken for one. After an empty page it has another, so that the
// next one is not empty as well.
const (
	tokenMark = "1!"
	emptyMark = "2!"
)

// token encodes a key so that any bytes survive in a header.
func token(mark string, key []byte) string {
	return mark + base64.RawURLEncoding.EncodeToString(key)
}

func readToken(text string) (key string, again, ok bool) {
	encoded, ok := strings.CutPrefix(text, tokenMark)
	if !ok {
		encoded, again = strings.CutPrefix(text, emptyMark)
	}
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	return string(b), again, (ok || again) && err == nil
}

// readContinuation returns the key at which the client goes on (nil: the beginning),
// and whether the client has had an empty page there.
func (r *request) readContinuation() (from []byte, again bool, bad *failure) {
	if !r.query.Has("NextPartitionKey") {
		return nil, false, nil
	}
	partition, again, ok := readToken(r.query.Get("NextPartitionKey"))
	if !ok {
		return nil, false, errInput
	}
	row := ""
	if r.query.Has("NextRowKey") {
		if row, _, ok = readToken(r.query.Get("NextRowKey")); !ok {
			return nil, false, errInput
		}
	}
	return key(partition, row), again, nil
}
