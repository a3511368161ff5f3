package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

const (
	// packWithin bounds the reading of a pack from the share.
	packWithin = 2 * time.Minute
	// packCalls bounds the calls on the share at once, those that hang included.
	packCalls = 8
	// mostPacks bounds what is kept of packs, beside the repositories: sent folders are
	// small.
	mostPacks = 2 * job.Gi
)

// What is wrong with a pack is looked at twice: the app takes a pack away for a moment
// before it removes it, and may put it back.
const (
	lookTwice = 2
	lookPause = 500 * time.Millisecond
)

// errShareDamaged is a share that has lost a part of a folder.
var errShareDamaged = errors.New("the share has lost a part of the job's folder")

// packCache keeps on the node's disk the packs that its attempts have needed, each in a
// file of its own.
type packCache struct {
	store *treestore.Store
	dir   string
	size  int64
	turns *patience.Calls
	reads singleflight.Group

	mu sync.Mutex // held while packs are removed
}

func newPackCache(share, dir string, size job.Bytes) (*packCache, error) {
	p := &packCache{store: treestore.New(share), dir: dir, size: int64(min(size, mostPacks)), turns: patience.New(packCalls)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for packs cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	drafts, err := filepath.Glob(filepath.Join(dir, "*"+making))
	for _, d := range drafts {
		err = errors.Join(err, os.Remove(d))
	}
	return p, err
}

// readShare makes a call on the share, with a bound.
func readShare[T any](p *packCache, call func() (T, error)) (T, error) {
	return patience.Do(p.turns, packWithin, call, nil)
}

func (p *packCache) path(h tree.Hash) string { return filepath.Join(p.dir, h.String()) }

// open opens a pack: what the node has of it, or else what the share has. Attempts that
// need it in the same moment read it once.
func (p *packCache) open(ctx context.Context, h tree.Hash) (packBody, error) {
	if body, ok := p.openKept(h); ok {
		return body, nil
	}
	read := p.reads.DoChan(h.String(), func() (any, error) { return p.fetch(h) })
	select {
	case got := <-read:
		if got.Err != nil {
			return packBody{}, got.Err
		}
		return inMemory(got.Val.([]byte)), nil
	case <-ctx.Done():
		return packBody{}, context.Cause(ctx)
	}
}

func (p *packCache) openKept(h tree.Hash) (packBody, bool) {
	f, err := os.Open(p.path(h))
	if err != nil {
		return packBody{}, false
	}
	at, err := f.Stat()
	if err != nil {
		f.Close()
		return packBody{}, false
	}
	now := time.Now()
	_ = os.Chtimes(p.path(h), now, now) // else it goes a little earlier
	return packBody{f, at.Size(), f.Close}, true
}

// fetch reads a pack from the share, and keeps it.
func (p *packCache) fetch(h tree.Hash) ([]byte, error) {
	var body []byte
	var err error
	for look := range lookTwice {
		if look > 0 {
			time.Sleep(lookPause)
		}
		body, err = readShare(p, func() ([]byte, error) { return p.readPack(h) })
		if err == nil && tree.HashOf(body) == h {
			break
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, treestore.ErrDamaged) {
			return nil, onShare(err)
		}
	}
	switch {
	case errors.Is(err, treestore.ErrDamaged):
		p.setAside(treestore.Pack, h)
		return nil, startfault.New(job.CauseShare, "%w: a pack is no file any more, or too long; submit the job again with --sync",
			errShareDamaged)
	case err != nil:
		return nil, startfault.New(job.CauseShare, "%w: a pack is missing; submit the job again with --sync", errShareDamaged)
	case tree.HashOf(body) != h:
		p.setAside(treestore.Pack, h)
		return nil, startfault.New(job.CauseShare, "%w: a pack has another SHA-256 than its name; submit the job again with --sync",
			errShareDamaged)
	}
	p.keep(h, body)
	return body, nil
}

func (p *packCache) readPack(h tree.Hash) ([]byte, error) {
	f, size, err := p.store.OpenPack(h)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body := make([]byte, size)
	_, err = io.ReadFull(f, body)
	return body, err
}

// keep writes a pack to the disk. A disk that is full keeps nobody from working: the pack
// is read from the share the next time.
func (p *packCache) keep(h tree.Hash, body []byte) {
	if int64(len(body)) > p.size {
		return
	}
	draft := p.path(h) + making
	err := os.WriteFile(draft, body, 0o600)
	if err == nil {
		err = os.Rename(draft, p.path(h))
	}
	if err != nil {
		os.Remove(draft)
	}
	p.shrink()
}

// setAside takes what is of no use away from the share, so that the app asks for it again
// when the folder is sent the next time. Where that fails, somebody has to remove it.
func (p *packCache) setAside(kind treestore.Kind, h tree.Hash) {
	_, _ = readShare(p, func() (bool, error) { return true, p.store.SetAside(kind, h) })
}

// drop forgets a pack that is damaged on the disk.
func (p *packCache) drop(h tree.Hash) { os.Remove(p.path(h)) }

// shrink removes what was used longest ago, until the rest is small enough. Somebody who
// reads a pack goes on reading it.
func (p *packCache) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return
	}
	var all []os.FileInfo
	var total int64
	for _, e := range entries {
		at, err := e.Info()
		if err != nil || strings.HasSuffix(e.Name(), making) {
			continue
		}
		all, total = append(all, at), total+at.Size()
	}
	slices.SortFunc(all, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, at := range all {
		if total <= p.size {
			return
		}
		if os.Remove(filepath.Join(p.dir, at.Name())) == nil {
			total -= at.Size()
		}
	}
}
