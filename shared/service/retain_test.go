package service_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// defaultKeep is what docs/settings.md says.
var defaultKeep = service.Keep{Finished: 30 * day, Files: 90 * day, IDs: 400 * day}

const day = 24 * time.Hour

// newRetention is an app with a share, whose clock a test sets.
func newRetention(t *testing.T, keep service.Keep) (h *hook, share string, at func(days float64)) {
	t.Helper()
	h, share = newFileHook(t), t.TempDir()
	h.change(func(c *service.Config) { c.Keep, c.Share = keep, share })
	began := time.Now().UTC()
	return h, share, func(days float64) {
		t.Helper()
		now := began.Add(time.Duration(days * float64(day)))
		h.clock = func() time.Time { return now }
		if err := h.service.Retention.Run(t.Context()); err != nil {
			t.Errorf("after %v days: %v", days, err)
		}
	}
}

// write makes the files of a job's attempt.
func write(t *testing.T, share, pool, id string) {
	t.Helper()
	dir := filepath.Join(share, "jobs", pool, id, "1")
	if err := os.MkdirAll(filepath.Join(dir, "output"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stdout.log"), []byte("said "+id), 0o600); err != nil {
		t.Fatal(err)
	}
}

func there(share, pool, id string) bool {
	_, err := os.Lstat(filepath.Join(share, "jobs", pool, id))
	return err == nil
}

func TestRetention(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keep service.Keep
		days []float64 // looked at after so many
		rows []bool    // whether the row is there then
		file []bool
		id   []bool
	}{
		{"as by default", defaultKeep, []float64{29, 31, 89, 92, 399, 402}, []bool{true, false, false, false, false, false},
			[]bool{true, true, true, false, false, false}, []bool{true, true, true, true, true, false}},
		{"files first", service.Keep{Finished: 30 * day, Files: 7 * day, IDs: 30 * day}, []float64{6, 8, 29, 31, 32}, []bool{true, true, true, false, false},
			[]bool{true, false, false, false, false}, []bool{true, true, true, false, false}},
		{"rows for ever", service.Keep{Finished: 0, Files: 7 * day, IDs: 0}, []float64{6, 8, 1000}, []bool{true, true, true}, []bool{true, false, false}, []bool{true, true, true}},
		{"all for ever", service.Keep{}, []float64{1000}, []bool{true}, []bool{true}, []bool{true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, share, at := newRetention(t, c.keep)
			h.run("good")
			h.submit(`{"id":"lives","pool":"cpu","command":["true"]}`, `{"id":"bad","pool":"nowhere","command":["true"]}`)
			row, err := h.store.ID(t.Context(), "good")
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"good", "lives", "nobody"} {
				write(t, share, "cpu", id)
			}
			for i, days := range c.days {
				at(days)
				_, err := h.store.FinishedJob(t.Context(), "cpu", row.Order)
				if (err == nil) != c.rows[i] {
					t.Errorf("after %v days: its row is there %v, want %v", days, err == nil, c.rows[i])
				}
				if got := there(share, "cpu", "good"); got != c.file[i] {
					t.Errorf("after %v days: its files are there %v, want %v", days, got, c.file[i])
				}
				j, err := h.service.Find(t.Context(), "good")
				if (err == nil) != c.id[i] || err == nil && j.State != job.Succeeded {
					t.Errorf("after %v days: it is %+v (%v), want it known %v", days, j, err, c.id[i])
				}
				if _, err := h.store.ID(t.Context(), "bad"); (err == nil) != c.id[i] {
					t.Errorf("after %v days: the rejection is known %v, want %v", days, err == nil, c.id[i])
				}
				if !there(share, "cpu", "lives") || !there(share, "cpu", "nobody") {
					t.Fatalf("after %v days: files that are not its own have gone", days)
				}
			}
			if j := h.job("lives"); j.State.Final() {
				t.Errorf("the live job is %s", j.State)
			}
		})
	}
}

// RecordUsage is the timer that lets go; a pool that was deleted has its turn as
// well, and an id that another job has by now keeps its files.
func TestRetentionOfADeletedPool(t *testing.T) {
	t.Parallel()
	h, share, at := newRetention(t, defaultKeep)
	h.run("good")
	h.submit(`{"id":"other","pool":"cpu","command":["true"]}`)
	h.delete("cpu")
	j := h.job("other") // on its node: what that reports is its end
	h.report(reportEnd(j.N, h.now()))
	write(t, share, "cpu", "good")
	write(t, share, "cpu", "other")
	h.drop("cpu")
	at(0)
	w := h.call("GET", "/api/jobs/good/logs/stdout", nil, nil)
	if h.http = h.API(share); w.Code == 200 {
		t.Errorf("a log that is not on this share: %d", w.Code)
	}
	if w := h.call("GET", "/api/jobs/good/logs/stdout", nil, nil); w.Code != 200 || w.Body.String() != "said good" {
		t.Errorf("its log: %d %s", w.Code, w.Body)
	}
	lists, err := h.store.DueExpiries(t.Context(), store.ExpireFiles, time.Now().Add(time.Hour), 10)
	if err != nil || len(lists) != 1 || len(lists[0].Jobs) != 2 {
		t.Fatalf("%+v, %v", lists, err)
	}
	// The id of the one is given to another job, as nothing but a hand can do.
	row, _ := h.store.ID(t.Context(), "other")
	if err := h.store.DropIDs(t.Context(), store.Expiry{Jobs: []store.ArchivedJob{{Order: row.Order, ID: "other"}}}); err != nil {
		t.Fatal(err)
	}
	row.Order = strings.Repeat("0", 26)
	if _, _, err := h.store.Register(t.Context(), []store.ID{row}); err != nil {
		t.Fatal(err)
	}
	h.clock = func() time.Time { return time.Now().Add(100 * day) }
	if err := h.RecordUsage(t.Context(), invoke.Tick{}); err != nil {
		t.Error(err)
	}
	if there(share, "cpu", "good") || !there(share, "cpu", "other") {
		t.Errorf(
			"files of the one that has ended %v, of the other's namesake %v",
			there(share, "cpu", "good"),
			there(share, "cpu", "other"),
		)
	}
	if w := h.call("GET", "/api/jobs/good/logs/stdout", nil, nil); w.Code != 404 {
		t.Errorf("its log is gone, and the answer %d", w.Code)
	}
}

func TestRemoveFiles(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(share, "datasets")
	must(os.MkdirAll(filepath.Join(outside, "x"), 0o700))
	must(os.WriteFile(filepath.Join(outside, "x", "precious"), nil, 0o600))
	precious := func(what string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(outside, "x", "precious")); err != nil {
			t.Fatalf("%s: what a link leads to has gone: %v", what, err)
		}
	}
	f := service.NewFiles(share)
	var stayed []string
	remove := func(entries int, ids ...string) error {
		t.Helper()
		stayed = nil
		return f.Remove(t.Context(), "cpu", ids, entries, func(id string, err error) { stayed = append(stayed, fmt.Sprint(id, ": ", err)) })
	}
	if err := remove(10, "a"); err == nil || errors.Is(err, service.ErrBudget) {
		t.Errorf("a share that is not mounted: %v, want an error", err)
	}
	must(os.MkdirAll(filepath.Join(share, "jobs"), 0o700))
	if err := remove(10, "a"); err != nil {
		t.Errorf("a pool without files: %v", err)
	}

	// Links, read-only directories, and a name that leads out.
	for _, id := range []string{"a", "b", "deep"} {
		write(t, share, "cpu", id)
	}
	cpu := filepath.Join(share, "jobs", "cpu")
	must(os.Symlink(outside, filepath.Join(cpu, "a", "1", "link")))
	must(os.Symlink("../../../../datasets", filepath.Join(cpu, "a", "1", "output", "relative")))
	must(os.Symlink(outside, filepath.Join(cpu, "linked")))
	must(os.Chmod(filepath.Join(cpu, "a", "1", "output"), 0o500))
	if err := remove(1000, "a", "linked", "..", "no/such", "gone"); err != nil || len(stayed) > 0 {
		t.Errorf("%v, %v", err, stayed)
	}
	precious("links in a job")
	if there(share, "cpu", "a") || there(share, "cpu", "linked") || !there(share, "cpu", "b") {
		t.Error("not that was removed which was to be")
	}

	// What fails holds up nobody else, and is said.
	write(t, share, "cpu", "after")
	if err := remove(1000, strings.Repeat("x", 300), "after"); err == nil || errors.Is(err, service.ErrBudget) ||
		there(share, "cpu", "after") {
		t.Errorf("one that cannot be removed, and another: %v", err)
	}

	// Little by little.
	if err := remove(2, "b"); !errors.Is(err, service.ErrBudget) || !there(share, "cpu", "b") {
		t.Errorf("with less to spend than it costs: %v", err)
	}
	for range 3 {
		_ = remove(3, "b")
	}
	if there(share, "cpu", "b") {
		t.Error("it does not go on where it was")
	}

	// Deeper than anything is opened: it stays, and is said.
	must(os.MkdirAll(filepath.Join(cpu, "deep", strings.Repeat("d/", 2*service.MaxDepth)), 0o700))
	write(t, share, "cpu", "behind")
	if err := remove(1000, "deep", "behind"); err != nil || len(stayed) != 1 || !strings.HasPrefix(stayed[0], "deep: ") ||
		there(share, "cpu", "behind") {
		t.Errorf("%v, %v", err, stayed)
	}

	// The pool's directory is a link.
	must(os.RemoveAll(cpu))
	must(os.Symlink(outside, cpu))
	if err := remove(1000, "x"); err == nil {
		t.Error("a link in place of the pool's directory was taken")
	}
	precious("a link in place of the pool's directory")
}

// A share that hangs holds one removal, and says so.
func TestRemoveFilesOneAtATime(t *testing.T) {
	t.Parallel()
	f := service.NewFiles(t.TempDir())
	f.Hang()
	err := f.Remove(t.Context(), "cpu", []string{"a"}, 10, nil)
	if fault.CodeOf(err) != fault.Internal {
		t.Errorf("got %v, want that the share does not answer", err)
	}
}

// A share that is not there keeps the files, which is said, and nothing else from going.
func TestRetentionWithoutAShare(t *testing.T) {
	t.Parallel()
	h, share, at := newRetention(t, defaultKeep)
	h.run("good")
	h.submit(`{"id":"bad","pool":"nowhere","command":["true"]}`)
	at(31)
	if err := os.RemoveAll(share); err != nil {
		t.Fatal(err)
	}
	later := h.now().Add(400 * day)
	h.clock = func() time.Time { return later }
	if err := h.service.Retention.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the share cannot be read") {
		t.Errorf("got %v", err)
	}
	if _, err := h.store.ID(t.Context(), "bad"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("the rejection is still known: %v", err)
	}
}
