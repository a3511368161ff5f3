package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/store/table"
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
	got := encodeLabels(map[string]string{"a": "kept", "b": strings.Repeat("x", 2*table.ChunkUnits), "c": "<&>"})
	if want := `{"a":"kept"}`; got != want {
		t.Errorf("labels are %.80s, want %s", got, want)
	}
}

// TestUsageColumns holds the types of what a report divides a node by: they are public.
func TestUsageColumns(t *testing.T) {
	t.Parallel()
	row := usage.NewRow(usage.Entry{
		Kind: usage.KindAttempt, CPUs: 1, NodeCPUs: 24, GPUs: 1, NodeGPUs: 2, Memory: 55 << 30, NodeMem: 220 << 30,
		From: dawn, To: dawn.Add(time.Hour), Price: "4", Currency: "EUR",
	})
	var got map[string]any
	if err := json.Unmarshal(encodeUsage("2026-01-31", "k", &row), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"CPUs": 1.0, "NodeCPUs": 24.0, "GPUs": 1.0, "NodeGPUs": 2.0,
		"Memory": "59055800320", "Memory@odata.type": "Edm.Int64",
		"NodeMemory": "236223201280", "NodeMemory@odata.type": "Edm.Int64",
		"Share": 0.5, "Share@odata.type": "Edm.Double",
		"NodeSeconds": 1800.0, "Cost": "2.00",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// TestUsageOfBefore reads what was written when an attempt paid for its cpus alone,
// as a row and as a fact on its way there: it costs what it cost.
func TestUsageOfBefore(t *testing.T) {
	t.Parallel()
	want := usage.NewRow(usage.Entry{
		Kind: usage.KindAttempt, Key: "1!1", Pool: "cpu", Job: "a", Attempt: 1, State: "succeeded", Node: "n", VMID: "v", Size: "s",
		CPUs: 6, NodeCPUs: 24, From: dawn, To: dawn.Add(time.Hour), Price: "4", Currency: "EUR",
	})
	if want.Cost != "1.00" || want.Share != 0.25 || want.NodeSeconds != 15*time.Minute {
		t.Fatalf("a quarter of the cpus is %v of the node, for %s and %s", want.Share, want.NodeSeconds, want.Cost)
	}
	from, to := dawn.UTC().Format(time.RFC3339), dawn.Add(time.Hour).UTC().Format(time.RFC3339)
	row, err := decodeUsage(
		[]byte(`{"PartitionKey":"d","RowKey":"k","Kind":"attempt","Key":"1!1","Pool":"cpu","Team":"","User":"","Job":"a","JobName":"",
		"Attempt":1,"State":"succeeded","ExitCode":"0","Node":"n","VMID":"v","Size":"s","Spot":false,"CPUs":6,"NodeCPUs":24,"From":"` + from + `","To":"` + to + `",
		"Seconds":3600,"NodeSeconds":900,"BootSeconds":0,"BusySeconds":0,"IdleSeconds":0,"DrainingSeconds":0,"PricePerHour":"4","Currency":"EUR","Cost":"1.00","Labels":""}`),
	)
	if err != nil || !reflect.DeepEqual(row, want) {
		t.Errorf("the row came back as %+v (%v), want %+v", row, err, want)
	}
	entries := `[{"kind":"attempt","key":"1!1","pool":"cpu","job":"a","attempt":1,"state":"succeeded","node":"n","vmid":"v","size":"s",
		"cpus":6,"nodeCpus":24,"from":"` + from + `","to":"` + to + `","price":"4","currency":"EUR"}]`
	quoted, _ := json.Marshal(entries) // a string can always be written
	log, err := decodeLog([]byte(`{"PartitionKey":"cpu","RowKey":"log!1","Seq":"1","Entries":` + string(quoted) + `}`))
	if err != nil || len(log.Entries) != 1 || !reflect.DeepEqual(usage.NewRow(log.Entries[0]), want) {
		t.Errorf("the fact came back as %+v (%v), want %+v", log, err, want)
	}
}

// decodeUsage reads a row of the ledger.
func decodeUsage(raw []byte) (usage.Row, error) {
	entry, err := decodeEntry(raw)
	if err != nil {
		return usage.Row{}, err
	}
	return usage.NewRow(entry), nil
}
