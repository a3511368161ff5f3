package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
	"dsvmpools/shared/wire"
)

const (
	// touchAgain is how old a note of use becomes before it is written again: a note is a
	// call on the share, and nothing goes within so short a time.
	touchAgain = time.Hour
	// treeCallWithin bounds a small call on the share, and treeWriteWithin the writing of
	// a pack or the reading of many indexes: both end before the platform cuts an answer.
	treeCallWithin  = 20 * time.Second
	treeWriteWithin = 100 * time.Second
	// treeCalls bounds the calls at once, those that hang included.
	treeCalls = 16
	// largeTree is the size, in bytes, above which a tree is large.
	largeTree = 1 << 20
)

// Trees takes in the folders that jobs are to start in, and keeps them on the share.
type Trees struct {
	store  *treestore.Store
	limits tree.Limits
	turns  *patience.Calls
	log    *slog.Logger
	now    func() time.Time

	parsing sync.Mutex // of a large tree
	index   treeIndex
}

func newTrees(share string, limits tree.Limits, log *slog.Logger, now func() time.Time) *Trees {
	if limits.Bytes == 0 {
		limits.Bytes = tree.DefaultMaxBytes
	}
	if limits.Files == 0 {
		limits.Files = tree.DefaultMaxFiles
	}
	return &Trees{store: treestore.New(share), limits: limits, turns: patience.New(treeCalls), log: log, now: now,
		index: newTreeIndex()}
}

// onShare makes a call on the share, with a bound.
func onShare[T any](t *Trees, within time.Duration, call func() (T, error)) (T, error) {
	v, err := patience.Do(t.turns, within, call, nil)
	switch {
	case errors.Is(err, patience.ErrTooLong), errors.Is(err, patience.ErrTooMany):
		err = &fault.Error{
			Code:    fault.Internal,
			Message: "the share does not answer; try again, and look at its mount on the function app",
			Err:     err,
		}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = wire.ShareFull()
	}
	return v, err
}

// Missing says which trees and blobs are not there, and notes the others as used.
func (t *Trees) Missing(_ context.Context, q wire.TreeQuestion) (wire.TreeAnswer, error) {
	answer := wire.TreeAnswer{Trees: []tree.Hash{}, Blobs: []tree.Hash{}, MaxBytes: t.limits.Bytes, MaxFiles: t.limits.Files}
	for _, h := range q.Trees {
		ok, err := onShare(t, treeCallWithin, func() (bool, error) { return t.useTree(h) })
		if err != nil {
			return answer, err
		}
		if !ok {
			answer.Trees = append(answer.Trees, h)
		}
	}
	_, missing, err := t.locate(q.Blobs)
	answer.Blobs = append(answer.Blobs, missing...)
	return answer, err
}

// useTree notes a tree and its packs as used; false: it is not there, or not whole.
func (t *Trees) useTree(h tree.Hash) (bool, error) {
	used, ok, err := t.store.Has(treestore.Tree, h)
	if err != nil || !ok {
		return false, err
	}
	if t.now().Sub(used) < touchAgain {
		return true, nil
	}
	return t.touchTree(h)
}

// touchTree notes a tree and its packs as used now. The packs come first, so that none of
// them is older than its tree.
func (t *Trees) touchTree(h tree.Hash) (bool, error) {
	packs, err := t.store.PacksOf(h)
	for _, p := range packs {
		if err == nil {
			err = t.store.Touch(treestore.Pack, p, t.now())
		}
	}
	if err == nil {
		err = t.store.Touch(treestore.Tree, h, t.now())
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, treestore.ErrDamaged) {
		return false, nil
	}
	return err == nil, err
}

// locate finds the packs of blobs, and notes these packs as used. It returns the packs,
// each once, and the blobs that are in none.
func (t *Trees) locate(blobs []tree.Hash) (packs, missing []tree.Hash, err error) {
	for range 2 {
		packs, missing = t.index.lookUp(blobs)
		if len(missing) == 0 {
			gone, err := onShare(t, treeWriteWithin, func() (bool, error) { return t.usePacks(packs, touchAgain) })
			if err != nil || !gone {
				return packs, nil, err
			}
		}
		// What is missing may have come through another process.
		if err := t.readPacks(); err != nil {
			return nil, nil, err
		}
	}
	packs, missing = t.index.lookUp(blobs)
	gone, err := onShare(t, treeWriteWithin, func() (bool, error) { return t.usePacks(packs, touchAgain) })
	if gone {
		packs, missing = t.index.lookUp(blobs)
	}
	return packs, missing, err
}

// usePacks notes packs as used, unless that was done more lately than some time ago. gone:
// some of them are not there any more, and forgotten.
func (t *Trees) usePacks(packs []tree.Hash, lately time.Duration) (gone bool, err error) {
	now := t.now()
	for _, h := range packs {
		used, known := t.index.lastUse(h)
		if !known {
			gone = true
		}
		if !known || now.Sub(used) < lately {
			continue
		}
		err := t.store.Touch(treestore.Pack, h, now)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.index.forget(h)
			gone = true
		case err != nil:
			return gone, fmt.Errorf("use of a pack: %w", err)
		default:
			t.index.noteUse(h, now)
		}
	}
	return gone, nil
}

// PutPack keeps a pack. It checks the pack with all of its blobs. The same pack again is
// written again, which mends one that was damaged.
func (t *Trees) PutPack(_ context.Context, h tree.Hash, pack []byte) error {
	if tree.HashOf(pack) != h {
		return fault.New(fault.Invalid, "sha256", "the body has another SHA-256 than the path says; send it again, whole and as it is")
	}
	blobs, err := tree.CheckPack(pack)
	if err != nil {
		return fault.New(fault.Invalid, "", "the body is no pack that can be used: %v", err)
	}
	now := t.now()
	if _, err := onShare(t, treeWriteWithin, func() (bool, error) { return true, t.store.WritePack(h, pack, now) }); err != nil {
		return fmt.Errorf("a pack cannot be written: %w", err)
	}
	t.index.learn(h, blobs, now)
	return nil
}

// PutTree keeps a tree. It is refused with wire.BlobsMissing when blobs are not there, and
// as invalid with the path that breaks a rule.
func (t *Trees) PutTree(_ context.Context, h tree.Hash, body []byte) error {
	if tree.HashOf(body) != h {
		return fault.New(fault.Invalid, "sha256", "the body has another SHA-256 than the path says; send it again, whole and as it is")
	}
	list, err := t.parse(body)
	if err != nil {
		return err
	}
	var blobs []tree.Hash
	for _, e := range list {
		blobs = append(blobs, e.Blobs...)
	}
	packs, err := t.holdPacks(list, blobs)
	if err != nil {
		return err
	}
	now := t.now()
	if _, err := onShare(t, treeWriteWithin, func() (bool, error) { return true, t.store.WriteTree(h, body, packs, now) }); err != nil {
		return fmt.Errorf("a tree cannot be written: %w", err)
	}
	return nil
}

// parse reads a tree. Large ones are read one after the other: a parser takes several times
// the memory of what it reads.
func (t *Trees) parse(body []byte) (tree.Tree, error) {
	if len(body) > largeTree {
		t.parsing.Lock()
		defer t.parsing.Unlock()
	}
	return tree.Parse(body, t.limits)
}

// holdPacks finds the packs of a tree's blobs, and notes them as used now, so that none of
// them goes before the tree.
func (t *Trees) holdPacks(list tree.Tree, blobs []tree.Hash) ([]tree.Hash, error) {
	const rounds = 3 // a pack that a node has found damaged is not there any more, whatever is known here
	for range rounds {
		packs, missing, err := t.locate(blobs)
		if err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			slices.SortFunc(missing, func(a, b tree.Hash) int { return bytes.Compare(a[:], b[:]) })
			return nil, wire.BlobsMissing(slices.Compact(missing))
		}
		if err := t.index.checkSizes(list); err != nil {
			return nil, err
		}
		gone, err := onShare(t, treeWriteWithin, func() (bool, error) { return t.usePacks(packs, 0) })
		if err != nil || !gone {
			return packs, err
		}
	}
	return nil, &fault.Error{Code: fault.Throttled, RetryAfter: time.Second,
		Message: "packs of this folder are just being removed from the share; try again in a moment"}
}
