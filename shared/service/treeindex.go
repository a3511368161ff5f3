package service

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

const (
	// mostIndexed bounds the blobs that a process knows the places of: some 60 MB. It is
	// more than two of the largest trees have.
	mostIndexed = 500_000
	// indexReaders is how many packs are read at once. Each costs a share some calls.
	indexReaders = treeCalls / 2
	// readPacksWithin bounds the reading of indexes in one question. The next question
	// goes on with it.
	readPacksWithin = 60 * time.Second
)

// treeIndex knows in which packs blobs are: in those that were used last, as far as they
// fit. A blob that it does not know counts as missing and is sent again, into a new pack.
type treeIndex struct {
	refresh sync.Mutex // held while the share is looked through
	most    int        // blobs

	mu     sync.Mutex
	blobs  map[tree.Hash]place
	packs  map[tree.Hash]*indexedPack
	places int // of blobs in all packs
}

// place says where a blob is.
type place struct {
	pack *indexedPack
	size int
}

// indexedPack is a pack whose index was read.
type indexedPack struct {
	hash    tree.Hash
	used    time.Time // as this process has noted or seen it last
	blobs   []tree.Hash
	damaged bool // it cannot be read; it is read again when it was written again
}

func newTreeIndex() treeIndex {
	return treeIndex{most: mostIndexed, blobs: map[tree.Hash]place{}, packs: map[tree.Hash]*indexedPack{}}
}

// lookUp says what is known of blobs: the packs, each once, and the blobs that are in none.
func (x *treeIndex) lookUp(blobs []tree.Hash) (packs, missing []tree.Hash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	seen := map[*indexedPack]bool{}
	for _, h := range blobs {
		at, ok := x.blobs[h]
		switch {
		case !ok:
			missing = append(missing, h)
		case !seen[at.pack]:
			seen[at.pack] = true
			packs = append(packs, at.pack.hash)
		}
	}
	return packs, missing
}

// checkSizes holds the sizes in a tree against those of its blobs.
func (x *treeIndex) checkSizes(list tree.Tree) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range list {
		for i, h := range e.Blobs {
			if at, ok := x.blobs[h]; ok && at.size != e.BlobSize(i) {
				return fault.New(fault.Invalid, "", "the file %.200q has another size than its content", e.Path)
			}
		}
	}
	return nil
}

// lastUse is when a pack was used last; false: it is not known.
func (x *treeIndex) lastUse(pack tree.Hash) (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.packs[pack]
	if p == nil {
		return time.Time{}, false
	}
	return p.used, true
}

func (x *treeIndex) noteUse(pack tree.Hash, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.packs[pack]; p != nil {
		p.used = at
	}
}

// learn notes what a pack holds, and forgets packs that were used longest ago where there
// are too many. It reports whether there was room for this one.
func (x *treeIndex) learn(pack tree.Hash, blobs []tree.Blob, used time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(pack)
	p := &indexedPack{hash: pack, used: used, blobs: make([]tree.Hash, len(blobs))}
	for i, b := range blobs {
		p.blobs[i] = b.Hash
		if at, ok := x.blobs[b.Hash]; !ok || !at.pack.used.After(used) {
			x.blobs[b.Hash] = place{pack: p, size: b.Size}
		}
	}
	x.packs[pack] = p
	x.places += len(blobs)
	if x.places > x.most {
		x.forgetOldest()
	}
	return x.packs[pack] != nil
}

// forgetOldest forgets packs until the rest fits.
func (x *treeIndex) forgetOldest() {
	oldest := func(a, b *indexedPack) int { return a.used.Compare(b.used) }
	for _, p := range slices.SortedFunc(maps.Values(x.packs), oldest) {
		if x.places <= x.most {
			return
		}
		x.drop(p.hash)
	}
}

// learnDamaged notes that a pack cannot be read.
func (x *treeIndex) learnDamaged(pack tree.Hash, used time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(pack)
	x.packs[pack] = &indexedPack{hash: pack, used: used, damaged: true}
}

func (x *treeIndex) forget(pack tree.Hash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(pack)
}

func (x *treeIndex) drop(pack tree.Hash) {
	p := x.packs[pack]
	if p == nil {
		return
	}
	delete(x.packs, pack)
	x.places -= len(p.blobs)
	for _, h := range p.blobs {
		if x.blobs[h].pack == p {
			delete(x.blobs, h)
		}
	}
}

// keepListed forgets the packs that are not in a list, and returns those that are to be
// read, those that were used last first.
func (x *treeIndex) keepListed(all []treestore.File) (fresh []treestore.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	there := make(map[tree.Hash]bool, len(all))
	for _, f := range all {
		there[f.Hash] = true
		switch p := x.packs[f.Hash]; {
		case p == nil, p.damaged && !p.used.Equal(f.Used):
			fresh = append(fresh, f)
		default:
			p.used = f.Used
		}
	}
	for h := range x.packs {
		if !there[h] {
			x.drop(h)
		}
	}
	slices.SortFunc(fresh, func(a, b treestore.File) int { return b.Used.Compare(a.Used) })
	return fresh
}

// readPacks reads the indexes of the packs that are new on the share, as far as there is
// room and time and those that were used last first, and forgets those that are gone. A pack that cannot be read is as good as
// none.
func (t *Trees) readPacks() error {
	t.index.refresh.Lock()
	defer t.index.refresh.Unlock()
	all, err := onShare(t, treeWriteWithin, func() ([]treestore.File, error) { return t.store.List(treestore.Pack) })
	if err != nil {
		return fmt.Errorf("the packs on the share: %w", err)
	}
	begin := time.Now()
	for part := range slices.Chunk(t.index.keepListed(all), indexReaders) {
		read, err := t.readIndexes(part)
		if err != nil {
			return err
		}
		for i, f := range part {
			switch {
			case read[i].damaged:
				t.index.learnDamaged(f.Hash, f.Used)
			case read[i].blobs != nil && !t.index.learn(f.Hash, read[i].blobs, f.Used):
				return nil
			}
		}
		if time.Since(begin) > readPacksWithin {
			return nil
		}
	}
	return nil
}

// readPack is what the reading of a pack's index has brought. Without anything, it could not
// be read this time.
type readPack struct {
	blobs   []tree.Blob
	damaged bool
}

// readIndexes reads the indexes of packs side by side. The error is a share that does not
// answer.
func (t *Trees) readIndexes(packs []treestore.File) ([]readPack, error) {
	read := make([]readPack, len(packs))
	var readers errgroup.Group
	for i, f := range packs {
		readers.Go(func() error {
			blobs, err := onShare(t, treeCallWithin, func() ([]tree.Blob, error) { return t.readIndex(f.Hash) })
			switch {
			case errors.Is(err, patience.ErrTooLong), errors.Is(err, patience.ErrTooMany):
				return err
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				t.log.Warn("pack on the share cannot be read", "pack", f.Hash.String(), "error", err)
				read[i].damaged = errors.Is(err, tree.ErrDamaged)
			default:
				read[i].blobs = blobs
			}
			return nil
		})
	}
	return read, readers.Wait()
}

func (t *Trees) readIndex(pack tree.Hash) ([]tree.Blob, error) {
	f, size, err := t.store.OpenPack(pack)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return tree.ReadIndex(f, size)
}
