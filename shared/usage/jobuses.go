package usage

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// JobUses are rows of the ledger of attempts, as far as a report by job needs them: some
// 20 bytes each as text, where a row has 700. What rows have in common is in their sum.
type JobUses []jobUse

type jobUse struct {
	job    string
	sum    int   // place of the sum without a label in which the row is
	labels []int // places of those with its labels
	only   bool  // the ledger has no other row of the job
	length Ticks
	held   int64 // part of the node that was held, see sumKey.Of
}

// TakeUses removes the uses from the sums and returns them.
func (s *Sums) TakeUses() JobUses {
	uses := s.uses
	s.uses = nil
	return uses
}

// Attempts is how many of the rows are of attempts: as many as there are uses.
func (s *Sums) Attempts() (n int) {
	for _, g := range s.list {
		if !g.Node && g.Label == "" {
			n += g.Rows
		}
	}
	return n
}

// translate returns the uses of other sums that were merged into these, with the places here.
func (s *Sums) translate(other *Sums) JobUses {
	uses := slices.Clone(other.uses)
	for i := range uses {
		u := &uses[i]
		u.sum = s.byKey[other.list[u.sum].sumKey]
		labels := u.labels
		u.labels = nil
		if s.NoLabels {
			continue
		}
		for _, place := range labels {
			u.labels = append(u.labels, s.byKey[other.list[place].sumKey])
		}
	}
	return uses
}

// removeUses removes the uses of other sums, as far as they are there.
func (s *Sums) removeUses(other *Sums) {
	for _, u := range s.translate(other) {
		i := slices.IndexFunc(s.uses, func(o jobUse) bool {
			return o.job == u.job && o.sum == u.sum && o.only == u.only && o.length == u.length && o.held == u.held &&
				slices.Equal(o.labels, u.labels)
		})
		if i >= 0 {
			s.uses = slices.Delete(s.uses, i, i+1)
		}
	}
}

// FitIn reports whether the uses are of these sums, as far as their places say.
func (u JobUses) FitIn(s *Sums) bool {
	inside := func(place int) bool { return place < len(s.list) }
	return !slices.ContainsFunc(u, func(use jobUse) bool {
		return !inside(use.sum) || slices.ContainsFunc(use.labels, func(place int) bool { return !inside(place) })
	})
}

// usesFormat is the first byte of uses as text.
const usesFormat = 1

// MarshalText writes the uses, sorted by job, compressed, in base64 for URLs, in which JSON
// escapes nothing. Numbers of a kind are together, which compresses best, and of an id there is only
// what differs from the one before.
func (u JobUses) MarshalText() ([]byte, error) {
	uses := slices.Clone(u)
	slices.SortStableFunc(uses, func(a, b jobUse) int { return strings.Compare(a.job, b.job) })
	raw := binary.AppendUvarint([]byte{usesFormat}, uint64(len(uses)))
	number := func(n int) { raw = binary.AppendUvarint(raw, uint64(n)) }
	var rests []byte
	last := ""
	for i := range uses {
		job := uses[i].job
		same := commonLength(last, job)
		number(same)
		number(len(job) - same)
		rests = append(rests, job[same:]...)
		last = job
	}
	for i := range uses {
		number(uses[i].sum<<1 | rank(uses[i].only))
	}
	for i := range uses {
		number(len(uses[i].labels))
		for _, place := range uses[i].labels {
			number(place)
		}
	}
	for i := range uses {
		raw = binary.AppendVarint(raw, uses[i].held)
	}
	for i := range uses {
		raw = binary.AppendVarint(raw, int64(uses[i].length))
	}
	raw = append(raw, rests...)
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(raw)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.AppendEncode(nil, b.Bytes()), nil
}

func commonLength(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// maxUsesBytes bounds what uses take that are not compressed: a damaged row must not take memory.
const maxUsesBytes = 32 << 20

// UnmarshalText reads what MarshalText writes.
func (u *JobUses) UnmarshalText(text []byte) error {
	raw := make([]byte, base64.RawURLEncoding.DecodedLen(len(text)))
	if _, err := base64.RawURLEncoding.Decode(raw, text); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxUsesBytes))
	if err != nil {
		return err
	}
	if len(raw) == 0 || raw[0] != usesFormat {
		return errors.New("uses of jobs are in a format of a later release")
	}
	r := usesReader{raw: raw[1:]}
	count := r.count()
	uses, sizes := make(JobUses, count), make([][2]int, count)
	for i := range sizes {
		sizes[i] = [2]int{r.number(), r.number()}
	}
	for i := range uses {
		n := r.number()
		uses[i].sum, uses[i].only = n>>1, n&1 == 1
	}
	var places []int // of all, so that they are one allocation
	for i := range uses {
		from := len(places)
		for range r.count() {
			places = append(places, r.number())
		}
		uses[i].labels = places[from:len(places):len(places)]
	}
	for i := range uses {
		uses[i].held = r.signed()
	}
	for i := range uses {
		uses[i].length = Ticks(r.signed())
	}
	if r.err == nil {
		r.err = uses.readJobs(r.raw, sizes)
	}
	*u = uses
	return r.err
}

// readJobs reads the ids: of each how much it shares with the one before, and the length of its
// rest, and the rests of all.
func (u JobUses) readJobs(rests []byte, sizes [][2]int) error {
	total := 0
	for _, size := range sizes {
		total += size[0] + size[1]
		if total > maxUsesBytes {
			return errors.New("the ids of jobs are too long")
		}
	}
	var all strings.Builder // one allocation
	all.Grow(total)
	last := ""
	for i, size := range sizes {
		if size[0] > len(last) || size[1] > len(rests) {
			return fmt.Errorf("the id of use %d is cut off", i)
		}
		from := all.Len()
		all.WriteString(last[:size[0]])
		all.Write(rests[:size[1]])
		rests = rests[size[1]:]
		last = all.String()[from:]
		u[i].job = last
	}
	return nil
}

// usesReader reads numbers. After the first error all are zero.
type usesReader struct {
	raw []byte
	err error
}

func (r *usesReader) number() int {
	n, size := binary.Uvarint(r.raw)
	if size <= 0 || n > maxUsesBytes {
		r.fail()
		return 0
	}
	r.raw = r.raw[size:]
	return int(n)
}

// count is a number of things of which each takes a byte at least.
func (r *usesReader) count() int {
	n := r.number()
	if n > len(r.raw) {
		r.fail()
		return 0
	}
	return n
}

func (r *usesReader) signed() int64 {
	n, size := binary.Varint(r.raw)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.raw = r.raw[size:]
	return n
}

func (r *usesReader) fail() {
	r.err = cmp.Or(r.err, errors.New("uses of jobs are cut off"))
	r.raw = nil
}

// Split splits the uses into texts of at most a number of uses, and of bytes.
func (u JobUses) Split(most, size int) (texts []string, err error) {
	for part := range slices.Chunk(u, most) {
		text, err := part.MarshalText()
		if err != nil {
			return nil, err
		}
		if len(text) <= size {
			texts = append(texts, string(text))
			continue
		}
		if len(part) == 1 {
			return nil, fmt.Errorf("the id of job %.100q is too long", part[0].job)
		}
		halves, err := part.Split((len(part)+1)/2, size)
		if err != nil {
			return nil, err
		}
		texts = append(texts, halves...)
	}
	return texts, nil
}
