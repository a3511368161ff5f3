package service_test

import (
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// The app is killed after it has sent the jobs and before the pool has heard of the
// reader's end; the node tells once more.
func TestFileCutShort(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	for range 2 {
		finished := *done.Finished
		r := protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}
		if err := h.service.StartJobFiles(t.Context(), &r); err != nil || finished.File != "" || finished.State != "succeeded" {
			t.Fatalf("got %+v, %v", finished, err)
		}
	}
	first := h.sent(6)
	h.restart()
	h.report(done)
	again := h.queued(3)
	for _, m := range again {
		if spec, err := job.Parse(m.Body, *m.ContentType); err != nil || first[m.MessageID].Hash() != spec.Hash() {
			t.Errorf("%s is another job than before, %v", m.MessageID, err)
		}
	}
	// All of them once: the same jobs twice are taken once.
	h.take(again)
	h.take(again)
	if j := h.job(reader); j.State != job.Succeeded {
		t.Errorf("the reader is %s", j.State)
	}
	if j := h.job(reader + "-3"); j.State != job.Assigned || len(j.Attempts) != 1 {
		t.Errorf("the job of the file is %+v", j)
	}
}

// The reader runs again on another node, after its file was read and before the
// pool knew.
func TestFileReadTwice(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	finished := *done.Finished
	if err := h.service.StartJobFiles(t.Context(), &protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}); err != nil {
		t.Fatal(err)
	}
	first := h.sent(3)
	h.report(protocol.ReportItem{Holds: &protocol.Holds{}}) // it has lost the assignment
	j := h.job(reader)
	if j.State != job.Assigned || j.N == done.Finished.N {
		t.Fatalf("the reader is %+v", j)
	}
	done.Finished.N = j.N
	h.report(done)
	for id, spec := range h.sent(3) {
		if first[id].Hash() != spec.Hash() {
			t.Errorf("%s is another job than before", id)
		}
	}
}

func TestFileSuperseded(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	h.push("d", payload("refs/heads/main", "2", "3"))
	h.queued(1) // the reader of the newer push
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
	// Also when the newer push is only half done: the jobs are cancelled with it.
	h = newFileHook(t)
	reader, done = h.read("refs/heads/main", "1", "2", goodFile)
	row, err := service.RecordOf(t.Context(), h.store, reader)
	if err != nil {
		t.Fatal(err)
	}
	h.report(done)
	if err := h.service.Supersede(t.Context(), row); err != nil { // as it stood before the report
		t.Fatal(err)
	}
	if row, err = service.RecordOf(t.Context(), h.store, reader); err != nil || !row.Superseded || len(row.Jobs) != 4 {
		t.Errorf("got %+v, %v", row, err)
	}
	if rows, err := h.store.StatusWatches(t.Context()); err != nil ||
		len(slices.DeleteFunc(rows, func(f store.StatusWatch) bool { return !f.Cancel })) != 3 {
		t.Errorf("got %+v, %v", rows, err)
	}
}

// A newer push counts as soon as its row says so, whether or not the reader could
// be cancelled.
func TestFileSupersededInRow(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	row, err := service.RecordOf(t.Context(), h.store, reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.ChangePush(t.Context(), row.Rule, row.Key, func(st *store.PushRecord) bool { st.Superseded = true; return true }); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled || !strings.Contains(j.Reason, "a newer push to refs/heads/main") {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
}

// The delivery was cut short after its reader was sent, and comes again when the
// file has been read: a newer push still finds all jobs.
func TestFileDeliveredAgain(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	row, err := service.RecordOf(t.Context(), h.store, reader)
	if err != nil {
		t.Fatal(err)
	}
	h.report(done)
	if _, err := h.store.ChangePush(t.Context(), row.Rule, row.Key, func(st *store.PushRecord) bool { st.Sent = false; return true }); err != nil {
		t.Fatal(err)
	}
	if jobs, reason := h.push("d", payload("refs/heads/main", "1", "2")); len(jobs) != 1 || jobs[0] != reader {
		t.Errorf("got %v: %s", jobs, reason)
	}
	h.take(h.queued(4))
	if row, err = service.RecordOf(t.Context(), h.store, reader); err != nil || len(row.Jobs) != 4 || !row.Sent || !row.HasFileJobs {
		t.Errorf("got %+v, %v", row, err)
	}
	if j := h.job(reader); j.State != job.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("the reader is %+v", j)
	}
}

// A reader that somebody cancels starts nothing; once its jobs are on the queue, the
// cancel has come too late.
func TestFileCancelled(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	if _, err := h.service.Jobs.Cancel(t.Context(), reader); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
	reader, done = h.read("refs/heads/other", "1", "2", goodFile)
	finished := *done.Finished
	if err := h.service.StartJobFiles(t.Context(), &protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.service.Jobs.Cancel(t.Context(), reader); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.sent(6)
	if j := h.job(reader); j.State != job.Succeeded {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
}
