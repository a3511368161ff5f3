package store

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/shared/fault"
)

// TestBusyServiceSlowsThePool has the service refuse a transaction of a pool that writes
// much. It is sent again without a look at the head, and later ones go at a pace, those of
// another pool do not.
func TestBusyServiceSlowsThePool(t *testing.T) {
	t.Parallel()
	direct := serve(t)
	target, forward := proxyTo(t, direct)
	var reads atomic.Int32
	var refuse atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			reads.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/$batch") && refuse.CompareAndSwap(true, false) {
			busy(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s := open(t, strings.Replace(direct, target, strings.TrimPrefix(server.URL, "http://"), 1))
	w := newWriter(t, s, "cpu")
	w.commit()
	s.paces.of("cpu").Spend(time.Now(), 200) // as if it had written as many rows just now
	before := reads.Load()
	refuse.Store(true)
	w.commit(insert(newJob(0)))
	if n := reads.Load() - before; n != 0 {
		t.Errorf("after a refusal %d reads were made, want none", n)
	}
	now := time.Now()
	if rate := s.paces.of("cpu").Rate(now); rate < slowestPace {
		t.Errorf("the pool goes at %.0f entities a second, want a limit of %d or more", rate, slowestPace)
	}
	if rate := s.paces.of("gpu").Rate(now); rate != 0 {
		t.Errorf("another pool goes at %.0f entities a second, want no limit", rate)
	}
	// A transaction that has to wait longer than its caller can is not sent.
	s.paces.of("cpu").Reserve(now, 1_000_000)
	ctx, cancel := context.WithTimeout(deadline(t), time.Millisecond)
	defer cancel()
	w.head.Seq++
	w.head.Nonce = "late"
	_, err := s.Commit(ctx, "cpu", w.version, w.head, nil)
	wantCode(t, "a pool that has to wait too long", err, fault.Throttled)
}
