package tables

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// cloud starts a server with the service's rates, whose second never ends.
func cloud(t *testing.T) (*Server, *aztables.Client) {
	t.Helper()
	s, err := Start(
		Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "tables.db"), Account: testAccount, Key: testKey, CloudRates: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	now := time.Now()
	s.rates.now = func() time.Time { return now }
	return s, tableOf(t, s, "pools")
}

func batchOf(partition string, from, n int) (out actions) {
	for i := range n {
		out = append(out, add(row(partition, fmt.Sprintf("%05d", from+i))))
	}
	return out
}

func TestRateOfAPartition(t *testing.T) {
	t.Parallel()
	s, c := cloud(t)
	for i := range PartitionRate / maxOperations {
		if _, err := c.SubmitTransaction(deadline(t), batchOf("p", i*maxOperations, maxOperations), nil); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	_, err := c.AddEntity(deadline(t), row("p", "more"), nil)
	wantError(t, err, 503, "ServerBusy")
	_, err = c.SubmitTransaction(deadline(t), batchOf("p", 90_000, 2), nil)
	wantError(t, err, 503, "ServerBusy")
	_, err = c.GetEntity(deadline(t), "p", "00000", nil)
	wantError(t, err, 503, "ServerBusy")
	if _, err := c.AddEntity(deadline(t), row("q", "r"), nil); err != nil {
		t.Errorf("another partition: %v", err)
	}
	stats := s.RateStats()
	if w, r := stats.Writes, stats.Reads; w != (RequestCount{23, 2, 0}) || r != (RequestCount{1, 1, 0}) {
		t.Errorf("counted %+v writes and %+v reads", w, r)
	}
	if p := stats.Partitions; p["pools/p"] != PartitionRate || p["pools/q"] != 1 || stats.FullSeconds != 1 {
		t.Errorf("counted %v in %d full seconds", p, stats.FullSeconds)
	}
	later := s.rates.now().Add(time.Second)
	s.rates.mu.Lock()
	s.rates.now = func() time.Time { return later }
	s.rates.mu.Unlock()
	if _, err := c.GetEntity(deadline(t), "p", "00000", nil); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestRateOfTheAccount(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := newRates(func() time.Time { return now }, 0, 0)
	for i := range AccountRate {
		if bad := r.take(ofWrites, "pools", fmt.Sprint(i), 1); bad != nil {
			t.Fatalf("%d: %v", i, bad)
		}
	}
	if bad := r.take(ofWrites, "pools", "more", 1); bad != errBusy {
		t.Errorf("got %v, want %v", bad, errBusy)
	}
	if bad := r.page(0); bad != errBusy {
		t.Errorf("a query: got %v, want %v", bad, errBusy)
	}
	if len(r.partitions) > AccountRate {
		t.Errorf("%d partitions are remembered", len(r.partitions))
	}
	if got, want := r.stats.Writes, (RequestCount{AccountRate + 1, 0, 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if r.stats.Entities != AccountRate || r.stats.FullSeconds != 1 || len(r.stats.Partitions) != maxCounted {
		t.Errorf("counted %d entities, %d full seconds, %d partitions", r.stats.Entities, r.stats.FullSeconds, len(r.stats.Partitions))
	}
	now = now.Add(time.Second)
	if bad := r.take(ofWrites, "pools", "more", 1); bad != nil {
		t.Errorf("a second later: %v", bad)
	}
}

// TestPagesAsInTheCloud reads a table over many partitions: everything comes,
// once and in order, in pages of which some are short and some empty.
func TestPagesAsInTheCloud(t *testing.T) {
	t.Parallel()
	_, c := cloud(t)
	var want []string
	for i := range 40 {
		for _, r := range []string{"1", "2"} {
			p := fmt.Sprintf("p%02d", i)
			want = append(want, p+"/"+r)
			if _, err := c.AddEntity(deadline(t), row(p, r), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	empty, short := 0, 0
	for pager := c.NewListEntitiesPager(nil); pager.More(); {
		page, err := pager.NextPage(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		switch len(page.Entities) {
		case 0:
			empty++
		case len(want):
		default:
			short++
		}
		for _, e := range page.Entities {
			m := decoded(t, e)
			got = append(got, fmt.Sprintf("%v/%v", m["PartitionKey"], m["RowKey"]))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if empty == 0 || short < 3 {
		t.Errorf("got %d empty and %d short pages, want some", empty, short)
	}
	if one := filtered(t, c, "PartitionKey eq 'p07'"); !slices.Equal(one, []string{"p07/1", "p07/2"}) {
		t.Errorf("one partition: got %v", one)
	}
}

func TestNameOfADeletedTableIsBlocked(t *testing.T) {
	t.Parallel()
	s, c := cloud(t)
	if s.deleted.hold < 30*time.Second {
		t.Errorf("blocked for %v, want 30 s at least", s.deleted.hold)
	}
	if _, err := c.Delete(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateTable(deadline(t), nil)
	wantError(t, err, 409, "TableBeingDeleted")
	_, err = c.AddEntity(deadline(t), row("p", "r"), nil)
	wantError(t, err, 409, "TableBeingDeleted")
	_, err = c.SubmitTransaction(deadline(t), actions{add(row("p", "r"))}, nil)
	wantFailed(t, err, http.StatusConflict, "TableBeingDeleted", 0)
	tables, err := connect(t, s).NewListTablesPager(nil).NextPage(deadline(t))
	if err != nil || len(tables.Tables) != 0 {
		t.Errorf("got %v, %v; want no tables", tables.Tables, err)
	}
	tableOf(t, s, "other")
	s.deleted.mu.Lock()
	clear(s.deleted.until) // as if the time were over
	s.deleted.mu.Unlock()
	if _, err := c.CreateTable(deadline(t), nil); err != nil {
		t.Error(err)
	}
}
