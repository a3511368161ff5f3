package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is what a store must contain: the keys of each bucket. The path of a bucket
// inside another one is "outer/inner".
type model map[string]map[string]string

func (m model) clone() model {
	out := model{}
	for name, keys := range m {
		out[name] = maps.Clone(keys)
	}
	return out
}

var modelBuckets = []string{"a", "b", "a/x", "b/x", "b/y"}

func find(tx *Tx, path string) *Bucket {
	outer, inner, isInside := strings.Cut(path, "/")
	b := tx.Bucket([]byte(outer))
	if b != nil && isInside {
		return b.Bucket([]byte(inner))
	}
	return b
}

// sequenceKey is where the model has the sequence of a bucket. No key of a test is like it.
const sequenceKey = "#"

// compare says how a transaction differs from the model.
func (m model) compare(tx *Tx, rng *rand.Rand) error {
	for _, path := range modelBuckets {
		b, want := find(tx, path), m[path]
		if (b != nil) != (want != nil) {
			return fmt.Errorf("bucket %s: is there: %v, want %v", path, b != nil, want != nil)
		}
		if b == nil {
			continue
		}
		if got := fmt.Sprint(b.Sequence()); got != want[sequenceKey] && (got != "0" || want[sequenceKey] != "") {
			return fmt.Errorf("bucket %s: got sequence %s, want %s", path, got, want[sequenceKey])
		}
		keys := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(k string) bool { return k == sequenceKey })
		var got []string
		err := b.ForEach(func(k, v []byte) error {
			if got = append(got, string(k)); want[string(k)] != string(v) || !bytes.Equal(b.Get(k), v) {
				return fmt.Errorf("bucket %s, key %s: got %q and %q, want %q", path, k, v, b.Get(k), want[string(k)])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !slices.Equal(got, keys) {
			return fmt.Errorf("bucket %s: got keys %q, want %q", path, got, keys)
		}
		from := fmt.Sprint(rng.IntN(1000))
		at, isKey := slices.BinarySearch(keys, from)
		k, _ := b.Cursor().Seek([]byte(from))
		if at < len(keys) && string(k) != keys[at] || at == len(keys) && k != nil {
			return fmt.Errorf("bucket %s: seek %s: got %q", path, from, k)
		}
		if (b.Get([]byte(from)) != nil) != isKey {
			return fmt.Errorf("bucket %s: get %s: there: %v, want %v", path, from, !isKey, isKey)
		}
	}
	return nil
}

// step makes a random change in both.
func (m model) step(tx *Tx, rng *rand.Rand) error {
	path := modelBuckets[rng.IntN(len(modelBuckets))]
	outer, inner, isInside := strings.Cut(path, "/")
	name, in := outer, interface {
		CreateBucket([]byte) (*Bucket, error)
		DeleteBucket([]byte) error
	}(tx)
	if isInside {
		b := tx.Bucket([]byte(outer))
		if b == nil {
			return nil
		}
		name, in = inner, b
	}
	b := find(tx, path)
	if b == nil {
		m[path] = map[string]string{}
		_, err := in.CreateBucket([]byte(name))
		return err
	}
	const drop, sequence, del, sweep, all = 1, 3, 25, 28, 100
	switch n := rng.IntN(all); {
	case n < drop:
		maps.DeleteFunc(m, func(p string, _ map[string]string) bool { return p == path || strings.HasPrefix(p, path+"/") })
		return in.DeleteBucket([]byte(name))
	case n < sequence:
		s := rng.Uint64()
		m[path][sequenceKey] = fmt.Sprint(s)
		return b.SetSequence(s)
	case n < del:
		k := fmt.Sprint(rng.IntN(1000))
		delete(m[path], k)
		return b.Delete([]byte(k))
	case n < sweep: // some keys by cursor
		c := b.Cursor()
		for k, _ := c.Seek([]byte(fmt.Sprint(rng.IntN(1000)))); k != nil && rng.IntN(10) > 0; k, _ = c.Next() {
			delete(m[path], string(k))
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	}
	k, v := fmt.Sprint(rng.IntN(1000)), strings.Repeat("v", rng.IntN(200))+fmt.Sprint(rng.Uint32())
	m[path][k] = v
	return b.Put([]byte(k), []byte(v))
}

// TestModel makes random changes, some of which are refused, and compares what readers see
// with a model: at once, in a transaction that began earlier, and after a kill.
func TestModel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	rng := rand.New(rand.NewPCG(1, 2))
	often := limits{20 << 10, time.Millisecond, 50 << 10}
	reopen := func() *DB {
		db, err := openStore(path, often)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { kill(db) })
		return db
	}
	db := reopen()
	want := model{}
	refused := errors.New("refused")
	var old *Tx
	var oldWant model
	view := func() {
		t.Helper()
		if err := db.View(func(tx *Tx) error { return want.compare(tx, rng) }); err != nil {
			t.Fatal(err)
		}
	}
	const rounds, oneIn = 3000, 10
	frozen := 0
	for round := range rounds {
		var next model
		fails := rng.IntN(oneIn) == 0
		err := db.Update(func(tx *Tx) error {
			next = want.clone()
			for range 1 + rng.IntN(20) {
				if err := next.step(tx, rng); err != nil {
					return err
				}
			}
			if err := next.compare(tx, rng); err != nil {
				return fmt.Errorf("in the transaction: %w", err)
			}
			if fails {
				return refused
			}
			return nil
		})
		switch {
		case fails && errors.Is(err, refused):
		case err != nil:
			t.Fatalf("round %d: %v", round, err)
		default:
			want = next
		}
		if db.version.Load().frozen != nil {
			frozen++
		}
		view()
		if old != nil && rng.IntN(oneIn) == 0 {
			if err := oldWant.compare(old, rng); err != nil {
				t.Fatalf("round %d: an old transaction: %v", round, err)
			}
			old.end()
			old = nil
		}
		if old == nil && rng.IntN(oneIn) == 0 {
			if old, err = db.begin(); err != nil {
				t.Fatal(err)
			}
			oldWant = want
		}
		if rng.IntN(20*oneIn) == 0 {
			if old != nil {
				old.end()
				old = nil
			}
			if rng.IntN(2) == 0 {
				kill(db)
			} else if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = reopen()
			view()
		}
	}
	if old != nil {
		old.end()
	}
	if saved := db.version.Load().saved; frozen == 0 || saved == 0 {
		t.Errorf("a layer was on its way into the tree in %d of %d rounds; at the end %d layers had gone there", frozen, rounds, saved)
	}
}
