package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/agent/startfault"
)

// maxPacks is how many fetches a cache takes before a new one is made: git
// looks into each of them for every object.
const maxPacks = 50

// commitRef keeps a commit in a cache, and says that all of it is there: git
// writes it last.
const commitRef = "refs/dsvm/"

// making ends the name of a cache's directory while it is made.
const making = ".new"

// repo is the cache of one repository: a bare repository of commits without their
// history. A new cache gets another directory, and the old directory stays
// while it has users, who may be reading it.
type repo struct {
	base  string        // of its directories, BASE.NUMBER
	turn  chan struct{} // taken while something is fetched into it
	dir   string        // the newest; "" = none. Guarded by turn
	users int           // attempts; guarded by Fetcher.mu
}

// cacheNumber is that of a cache's directory; 0 = it is none.
func cacheNumber(dir string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(dir), "."))
	return n
}

// takeCache returns the cache of a repository, kept until it is released. It need not
// exist yet. What was fetched with a credential is only for those who name it.
func (a *attempt) takeCache(repository string) *repo {
	with := ""
	if a.credential.covers(repository) {
		with = a.Source.Credential
	}
	sum := sha256.Sum256([]byte(with + " " + repository))
	name := hex.EncodeToString(sum[:16])
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.repos[name]
	if r == nil {
		r = &repo{base: filepath.Join(a.cfg.Dir, name), turn: make(chan struct{}, 1)}
		for _, dir := range r.dirs() {
			if cacheNumber(dir) > cacheNumber(r.dir) {
				r.dir = dir
			}
		}
		a.repos[name] = r
	}
	r.users++
	return r
}

// dirs lists a cache's directories.
func (r *repo) dirs() []string {
	all, _ := filepath.Glob(r.base + ".*")
	return all
}

// releaseCache gives a cache back. Of the caches that nobody uses it then removes as many as
// are too much; the one that was used longest ago goes first.
func (f *Fetcher) releaseCache(r *repo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.users--; r.users == 0 {
		delete(f.repos, filepath.Base(r.base))
		for _, dir := range r.dirs() {
			if dir != r.dir {
				os.RemoveAll(dir)
			}
		}
		now := time.Now()
		os.Chtimes(r.dir, now, now)
	}
	type kept struct {
		name string
		size int64
		at   time.Time
	}
	var all []kept
	var total int64
	entries, _ := os.ReadDir(f.cfg.Dir)
	for _, e := range entries {
		at, err := e.Info()
		if err != nil {
			continue
		}
		k := kept{e.Name(), sizeOf(filepath.Join(f.cfg.Dir, e.Name())), at.ModTime()}
		all, total = append(all, k), total+k.size
	}
	slices.SortFunc(all, func(a, b kept) int { return a.at.Compare(b.at) })
	for _, k := range all {
		if total <= int64(f.cfg.CacheSize) {
			return
		}
		name, _, _ := strings.Cut(k.name, ".")
		if f.repos[name] == nil && os.RemoveAll(filepath.Join(f.cfg.Dir, k.name)) == nil {
			total -= k.size
		}
	}
}

// sizeOf is how much a directory holds.
func sizeOf(dir string) (total int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if at, err := e.Info(); err == nil {
				total += at.Size()
			}
		}
		return nil
	})
	return total
}

// removeLeftovers removes what runs of git that were killed have left in the caches.
func (f *Fetcher) removeLeftovers() error {
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if cacheNumber(e.Name()) == 0 {
			os.RemoveAll(filepath.Join(f.cfg.Dir, e.Name()))
			continue
		}
		removeLocks(filepath.Join(f.cfg.Dir, e.Name()))
	}
	return nil
}

// removeLocks removes locks and unfinished files of git runs that have ended.
func removeLocks(dir string) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && (strings.HasSuffix(path, ".lock") || strings.HasPrefix(e.Name(), "tmp_")) {
			os.Remove(path)
		}
		return nil
	})
}

// ensureCommit has a commit in the cache and returns the directory. Old = the directory
// was there before, and may be damaged.
func (a *attempt) ensureCommit(ctx context.Context, r *repo, repository, commit string) (dir string, old bool, err error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return "", false, context.Cause(ctx)
	}
	if r.dir != "" && a.hasCommit(ctx, r.dir, commit) {
		return r.dir, true, nil
	}
	packs, _ := filepath.Glob(filepath.Join(r.dir, "objects", "pack", "*.pack"))
	if r.dir == "" || len(packs) >= maxPacks {
		dir, err = a.replaceCache(ctx, r, repository, commit)
		return dir, false, err
	}
	if err = a.download(ctx, r.dir, repository, commit); err != nil {
		removeLocks(r.dir)
	}
	return r.dir, true, err
}

// renewCache makes a new cache in place of one that could not be used, unless another
// attempt has made it already. It returns the directory.
func (a *attempt) renewCache(ctx context.Context, r *repo, failed, repository, commit string) (string, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if r.dir != failed && a.hasCommit(ctx, r.dir, commit) {
		return r.dir, nil
	}
	if r.dir != failed && a.download(ctx, r.dir, repository, commit) == nil {
		return r.dir, nil
	}
	return a.replaceCache(ctx, r, repository, commit)
}

// replaceCache fetches into a new directory, which is the cache's once it is good. The
// caller has the turn.
func (a *attempt) replaceCache(ctx context.Context, r *repo, repository, commit string) (string, error) {
	dir := fmt.Sprintf("%s.%d", r.base, cacheNumber(r.dir)+1)
	fresh := dir + making
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(dir)); err != nil {
		return "", fmt.Errorf("the node's folder for sources cannot be written: %w", startfault.Innermost(err))
	}
	err := a.gitInCache(ctx, "", nil, append([]string{"init", "--quiet", "--bare", "--template="}, initArguments(commit, fresh)...)...)
	if err == nil {
		err = a.download(ctx, fresh, repository, commit)
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		os.RemoveAll(fresh)
		return "", err
	}
	r.dir = dir
	return dir, nil
}
