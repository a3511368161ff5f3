package service_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/service"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

// sendTree sends a tree of one file, and returns its hash and that of its blob.
func sendTree(t *testing.T, trees *service.Trees, content string) (list, blob tree.Hash) {
	t.Helper()
	blob = tree.HashOf([]byte(content))
	var p tree.Packer
	if err := p.Add(blob, []byte(content)); err != nil {
		t.Fatal(err)
	}
	h, pack := p.Finish()
	if err := trees.PutPack(t.Context(), h, pack); err != nil {
		t.Fatal(err)
	}
	body := tree.Tree{{Path: "a", Mode: tree.ModePlain, Size: int64(len(content)), Blobs: []tree.Hash{blob}}}.Encode()
	list = tree.HashOf(body)
	if err := trees.PutTree(t.Context(), list, body); err != nil {
		t.Fatal(err)
	}
	return list, blob
}

// What nobody has used for long enough goes: the tree first, its pack a day later. What a
// live job names stays, and so does what somebody has asked about.
func TestUnusedTreesGo(t *testing.T) {
	t.Parallel()
	const keep = 14 * 24 * time.Hour
	app := apptest.New(t, func(c *service.Config) { c.Keep.Trees = keep })
	spec, err := pool.Parse([]byte(apptest.PoolDocument), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Pools.ApplyPool(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	forgotten, forgottenBlob := sendTree(t, app.Trees, "forgotten")
	asked, askedBlob := sendTree(t, app.Trees, "asked")
	named, namedBlob := sendTree(t, app.Trees, "named")
	j, err := job.Parse([]byte(`{"id":"held","pool":"`+spec.Name+`","command":["true"],"notBefore":"2999-01-01T00:00:00Z",`+
		`"source":{"tree":"`+named.Name()+`"}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Jobs.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	drafts := filepath.Join(app.Share, "synced", "tmp")
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "young": 0} {
		at := apptest.Noon.Add(-age)
		if err := os.WriteFile(filepath.Join(drafts, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(drafts, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	all := wire.TreeQuestion{Trees: []tree.Hash{forgotten, asked, named}, Blobs: []tree.Hash{forgottenBlob, askedBlob, namedBlob}}
	runs := func(after time.Duration) {
		t.Helper()
		app.Clock.Set(apptest.Noon.Add(after))
		if err := app.Retention.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	has := func(kind string, want int) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(app.Share, "synced", kind))
		if err != nil || len(entries) != want {
			t.Errorf("%d %s, want %d: %v", len(entries), kind, want, err)
		}
	}
	runs(time.Minute)
	has("trees", 6) // each with its list
	has("tmp", 1)
	app.Clock.Set(apptest.Noon.Add(keep - time.Hour))
	if got, err := app.Trees.Missing(t.Context(), wire.TreeQuestion{Trees: []tree.Hash{asked}}); err != nil || len(got.Trees) != 0 {
		t.Fatal(got, err)
	}
	runs(keep + time.Hour)
	has("trees", 4)
	has("packs", 3)
	runs(keep + 26*time.Hour)
	has("packs", 2)
	got, err := app.Trees.Missing(t.Context(), all)
	if err != nil || !slices.Equal(got.Trees, []tree.Hash{forgotten}) || !slices.Equal(got.Blobs, []tree.Hash{forgottenBlob}) {
		t.Errorf("got %+v, %v", got, err)
	}
	// Sent again, it is there again.
	sendTree(t, app.Trees, "forgotten")
	if got, err := app.Trees.Missing(t.Context(), all); err != nil || len(got.Trees)+len(got.Blobs) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What was answered to be there survives a removal that runs in the same moment.
func TestNothingGoesThatWasSaidToBeThere(t *testing.T) {
	t.Parallel()
	const keep = 2 * time.Hour
	app := apptest.New(t, func(c *service.Config) { c.Keep.Trees = keep })
	for round := range 20 {
		begin := apptest.Noon.Add(time.Duration(round) * 1000 * time.Hour)
		app.Clock.Set(begin)
		list, blob := sendTree(t, app.Trees, string(rune('a'+round)))
		app.Clock.Set(begin.Add(100 * time.Hour)) // both are due
		done := make(chan error, 1)
		go func() { done <- app.Retention.Run(context.WithoutCancel(t.Context())) }()
		got, err := app.Trees.Missing(t.Context(), wire.TreeQuestion{Trees: []tree.Hash{list}, Blobs: []tree.Hash{blob}})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		for kind, h := range map[string]tree.Hash{"trees": list, "packs": packOf(t, string(rune('a'+round)))} {
			missing := kind == "trees" && len(got.Trees) > 0 || kind == "packs" && len(got.Blobs) > 0
			if _, err := os.Stat(filepath.Join(app.Share, "synced", kind, h.String())); err != nil && !missing {
				t.Errorf("round %d: it was said to be in %s: %v", round, kind, err)
			}
		}
	}
}

func packOf(t *testing.T, content string) tree.Hash {
	t.Helper()
	var p tree.Packer
	if err := p.Add(tree.HashOf([]byte(content)), bytes.Clone([]byte(content))); err != nil {
		t.Fatal(err)
	}
	h, _ := p.Finish()
	return h
}

// A process knows the blobs of the packs that were used last. Others count as missing, and
// are taken when they are sent again.
func TestIndexOfPacksIsBounded(t *testing.T) {
	t.Parallel()
	const packs, perPack, most = 40, 10, 35
	app := apptest.New(t)
	app.Trees.BoundIndex(most)
	blobs, hashes := make([][]tree.Hash, packs), make([]tree.Hash, packs)
	pack := func(n int) {
		t.Helper()
		var p tree.Packer
		blobs[n] = nil
		for i := range perPack {
			content := fmt.Appendf(nil, "%d of %d", i, n)
			blobs[n] = append(blobs[n], tree.HashOf(content))
			if err := p.Add(tree.HashOf(content), content); err != nil {
				t.Fatal(err)
			}
		}
		h, body := p.Finish()
		hashes[n] = h
		if err := app.Trees.PutPack(t.Context(), h, body); err != nil {
			t.Fatal(err)
		}
	}
	for n := range packs {
		app.Clock.Set(apptest.Noon.Add(time.Duration(n) * time.Minute))
		pack(n)
	}
	first := filepath.Join(app.Share, "synced", "packs", hashes[0].String())
	if err := os.WriteFile(first, []byte("damaged"), 0o600); err != nil { // nobody is to read it
		t.Fatal(err)
	}
	if err := os.Chtimes(first, apptest.Noon, apptest.Noon); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	other := service.NewTrees(app.Share, app.Clock.Now, slog.New(slog.NewTextHandler(&logged, nil))) // has to read the share
	other.BoundIndex(most)
	for name, trees := range map[string]*service.Trees{"writer": app.Trees, "other": other} {
		for round := range 3 {
			newest, err := trees.Missing(t.Context(), wire.TreeQuestion{Blobs: slices.Concat(blobs[packs-3:]...)})
			if err != nil || len(newest.Blobs) != 0 {
				t.Errorf("%s, round %d: %d blobs of the newest packs are missing, %v", name, round, len(newest.Blobs), err)
			}
			oldest, err := trees.Missing(t.Context(), wire.TreeQuestion{Blobs: blobs[0]})
			if err != nil || len(oldest.Blobs) != perPack {
				t.Errorf("%s, round %d: %d blobs of the oldest pack are missing, %v; want all", name, round, len(oldest.Blobs), err)
			}
			if n := trees.Indexed(); n > most {
				t.Errorf("%s, round %d: %d blobs are known, want %d at most", name, round, n, most)
			}
		}
	}
	if logged.Len() > 0 {
		t.Errorf("the oldest pack was read, although there is no room for it: %s", &logged)
	}
	pack(0)
	body := tree.Tree{{Path: "a", Mode: tree.ModePlain, Size: int64(len("0 of 0")), Blobs: blobs[0][:1]}}.Encode()
	if err := other.PutTree(t.Context(), tree.HashOf(body), body); err != nil {
		t.Errorf("a tree of blobs that were sent again: %v", err)
	}
}

// A pack that cannot be read is read again only after it was written again.
func TestDamagedPackIsReadOnce(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	_, blob := sendTree(t, app.Trees, "a")
	path := filepath.Join(app.Share, "synced", "packs", packOf(t, "a").String())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := service.NewTrees(app.Share, app.Clock.Now, slog.New(slog.DiscardHandler))
	missing := func(want int) {
		t.Helper()
		got, err := other.Missing(t.Context(), wire.TreeQuestion{Blobs: []tree.Hash{blob}})
		if err != nil || len(got.Blobs) != want {
			t.Errorf("got %+v, %v; want %d missing", got, err, want)
		}
	}
	missing(1)
	if err := os.WriteFile(path, whole, 0o600); err != nil { // with its time as it was: nobody reads it
		t.Fatal(err)
	}
	if err := os.Chtimes(path, other.LastUse(packOf(t, "a")), other.LastUse(packOf(t, "a"))); err != nil {
		t.Fatal(err)
	}
	missing(1)
	app.Clock.Set(apptest.Noon.Add(time.Minute))
	sendTree(t, app.Trees, "a")
	missing(0)
}
