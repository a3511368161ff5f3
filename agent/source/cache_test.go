//go:build unix

package source

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
)

// TestSourceDamaged: a cache that cannot be used any more is begun anew.
func TestSourceDamaged(t *testing.T) {
	t.Parallel()
	each := func(dir, pattern string, do func(string) error) error {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("there is no %s", pattern)
		}
		for _, file := range files {
			err = errors.Join(err, os.Chmod(file, 0o600), do(file))
		}
		return err
	}
	tests := []struct {
		name   string
		damage func(dir string) error
	}{
		{"short packs", func(dir string) error {
			return each(dir, "objects/pack/*.pack", func(f string) error { return os.Truncate(f, 40) })
		}},
		{"a flipped byte", func(dir string) error {
			return each(dir, "objects/pack/*.pack", func(f string) error {
				text, err := os.ReadFile(f)
				if err == nil {
					text[len(text)/2] ^= 0x55
					err = os.WriteFile(f, text, 0o600)
				}
				return err
			})
		}},
		{"no packs", func(dir string) error { return each(dir, "objects/pack/*", os.Remove) }},
		{"no configuration", func(dir string) error { return os.WriteFile(filepath.Join(dir, "config"), []byte("[core"), 0o600) }},
		{"no head", func(dir string) error { return os.Remove(filepath.Join(dir, "HEAD")) }},
		{"an empty ref", func(dir string) error {
			return each(dir, "refs/dsvm/*", func(f string) error { return os.Truncate(f, 0) })
		}},
		{"locks", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "shallow.lock"), nil, 0o600), os.WriteFile(filepath.Join(dir, "config.lock"), nil,
				0o600))
		}},
		{"a file in its place", func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := gittest.New(t)
			first := o.Commit("a", strings.Repeat("some text that takes a while\n", 50))
			second := o.Commit("a", "2")
			f := fetcherOf(t, config(t), *o.Source(first))
			if _, err := f.into(t, "w"); err != nil {
				t.Fatal(err)
			}
			for _, c := range []string{first, second} {
				r := f.takeCache(f.Source.Repository)
				if err := test.damage(r.dir); err != nil {
					t.Fatal(err)
				}
				f.releaseCache(r)
				f.Source.Commit = c
				tree, err := f.into(t, "w")
				if err != nil {
					t.Fatal(err)
				}
				if got := o.Git(tree, "status", "--porcelain") + o.Git(tree, "rev-parse", "HEAD"); got != c {
					t.Errorf("got %s, want %s", got, c)
				}
			}
		})
	}
}

// TestSourceDamagedTogether: attempts of different commits that find the cache
// damaged do not take the new one from each other.
func TestSourceDamagedTogether(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	const attempts = 6
	f := fetcherOf(t, config(t), job.Source{})
	var commits []string
	for i := range attempts {
		f.Source = *o.Source(o.Commit("a", fmt.Sprint(i)))
		if _, err := f.into(t, "w"); err != nil {
			t.Fatal(err)
		}
		commits = append(commits, f.Source.Commit)
	}
	r := f.takeCache(f.Source.Repository)
	packs, _ := filepath.Glob(filepath.Join(r.dir, "objects/pack/*.pack"))
	for _, pack := range packs {
		if err := errors.Join(os.Chmod(pack, 0o600), os.Truncate(pack, 20)); err != nil {
			t.Fatal(err)
		}
	}
	f.releaseCache(r)
	var all sync.WaitGroup
	for i, commit := range commits {
		tree := filepath.Join(t.TempDir(), "w")
		all.Go(func() {
			g := &attempt{Fetcher: f.Fetcher, Request: Request{Source: *o.Source(commit), Key: fmt.Sprint("source.", i)}}
			if err := g.fetch(t.Context(), tree); err != nil {
				t.Errorf("attempt %d: got %v", i, err)
				return
			}
			if text, err := os.ReadFile(filepath.Join(tree, "a")); err != nil || string(text) != fmt.Sprint(i) {
				t.Errorf("attempt %d: got %q, %v", i, text, err)
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(f.cfg.Dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v kept; want one directory", left, err)
	}
}

// TestSourceCacheIsBounded: what was used longest ago goes first, and a cache of
// many fetches is begun anew.
func TestSourceCacheIsBounded(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.CacheSize = 0
	var f *attempt
	for range 2 {
		o := gittest.New(t)
		f = fetcherOf(t, cfg, *o.Source(o.Commit("a", "b")))
		if _, err := f.into(t, "w"); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(f.cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v kept; want nothing", left, err)
	}
	o := gittest.New(t)
	if runtime.GOOS == "linux" {
		random := make([]byte, 300_000)
		rand.NewChaCha8([32]byte{1}).Read(random) // cannot be compressed
		cfg.CacheSize = 100_000
		f = fetcherOf(t, cfg, *o.Source(o.Commit("large", string(random))))
		if _, err := f.into(t, "w"); err == nil || !strings.Contains(err.Error(), "larger than 100000, which is what DSVM_SOURCE_CACHE allows") {
			t.Errorf("more than is allowed: got %v", err)
		}
		o.Git(o.Clone, "rm", "-q", "large")
	}
	f = fetcherOf(t, config(t), *o.Source(o.Commit("a", "b")))
	if _, err := f.into(t, "w"); err != nil {
		t.Fatal(err)
	}
	r := f.takeCache(f.Source.Repository)
	for i := range maxPacks {
		if err := os.WriteFile(filepath.Join(r.dir, "objects/pack", fmt.Sprintf("pack-%d.pack", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.Source.Commit = o.Commit("a", "c")
	if _, err := f.into(t, "w"); err != nil {
		t.Fatal(err)
	}
	f.releaseCache(r)
	if packs, _ := filepath.Glob(filepath.Join(r.dir, "objects/pack/*.pack")); cacheNumber(r.dir) != 2 || len(packs) != 1 {
		t.Errorf("got %d packs, want 1", len(packs))
	}
	if left, err := os.ReadDir(f.cfg.Dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v kept; want one cache", left, err)
	}
}
