package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/usage"
)

func TestRecordTwiceIsOnce(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	var entries []usage.Entry
	for i := range 250 {
		from := dawn.Add(time.Duration(i) * time.Hour)
		entries = append(entries, usage.Entry{
			Kind: usage.KindAttempt, Key: fmt.Sprintf("%s!1", order(i)), Pool: "cpu", Team: "vision", Job: fmt.Sprint(i),
			CPUs: 1, NodeCPUs: 4, GPUs: 1, NodeGPUs: 2, Memory: 3 << 30, NodeMem: 16 << 30, From: from, To: from.Add(90 * time.Minute), Price: "0.40", Currency: "EUR",
			Labels: map[string]string{"project": "x"},
		})
	}
	for range 2 {
		if err := s.Record(ctx, append(entries, entries[0])); err != nil {
			t.Fatal(err)
		}
	}
	read := func(from, to time.Time) (rows []usage.Row) {
		t.Helper()
		err := s.Usage(ctx, from, to, func(r usage.Row) error { rows = append(rows, r); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	all := read(dawn, dawn.AddDate(1, 0, 0))
	if len(all) != len(entries) || !reflect.DeepEqual(all[0], usage.NewRow(entries[0])) {
		t.Errorf("%d rows, the first %+v; want %d", len(all), all[0], len(entries))
	}
	from := dawn.Add(90 * time.Minute)
	if some := read(from, from.Add(24*time.Hour)); len(some) != 24 || some[0].Job != "0" || some[23].Job != "23" {
		t.Errorf("%d rows ended in 24 hours, want 24", len(some))
	}
	if none := read(from, from); none != nil {
		t.Errorf("%d rows ended in no time", len(none))
	}
	stop := errors.New("stop")
	if err := s.Usage(ctx, dawn, dawn.AddDate(1, 0, 0), func(usage.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the reader's own error", err)
	}
}

func TestLabelsThatDoNotFit(t *testing.T) {
	t.Parallel()
	got := labels(map[string]string{"a": "kept", "b": strings.Repeat("x", 2*chunkUnits), "c": "<&>"})
	if want := `{"a":"kept"}`; got != want {
		t.Errorf("labels are %.80s, want %s", got, want)
	}
}
