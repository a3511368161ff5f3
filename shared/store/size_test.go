package store

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// billed is the size of a row as Table Storage bills it: 4 bytes, two for each
// character of the keys, and for each property 8, two for each character of its name,
// and its value.
func billed(t *testing.T, raw []byte) int {
	t.Helper()
	var row map[string]any
	if err := json.Unmarshal(raw, &row); err != nil {
		t.Fatal(err)
	}
	chars := func(s string) int { return 2 * len(utf16.Encode([]rune(s))) }
	size := 4
	for name, value := range row {
		if strings.Contains(name, "@") || strings.HasPrefix(name, "odata.") {
			continue
		}
		if name == "PartitionKey" || name == "RowKey" {
			size += chars(value.(string))
			continue
		}
		size += 8 + chars(name)
		switch value := value.(type) {
		case string:
			if kind, _ := row[name+"@odata.type"].(string); kind != "" {
				size += 8 // a time or a table.Number
				break
			}
			size += chars(value) + 4
		case bool:
			size++
		default:
			size += 8
		}
	}
	return size
}

// The sizes that docs/settings.md counts with: `go test ./shared/store -run TestRowSizes -v`
// prints them. A row that has grown by a third makes that page wrong.
func TestRowSizes(t *testing.T) {
	t.Parallel()
	at := dawn.Add(123456700 * time.Nanosecond)
	j := &pool.Job{
		Order:       "01KG9A61R00000000000000000",
		ID:          "nightly-2026-01-31-0001",
		State:       job.Succeeded,
		SubmittedAt: at,
		EndedAt:     at.Add(time.Hour),
		VMID:        "",
		N:           0,
		Spec: job.Spec{ID: "nightly-2026-01-31-0001", Pool: "gpu", Name: "nightly evaluation", Team: "vision", User: "ann",
			Command: []string{
				"python3",
				"train.py",
				"--epochs",
				"10",
			}, Resources: job.Resources{CPUs: 4, GPUs: 1}, Timeout: job.Duration(2 * time.Hour)},
		Attempts: []job.Attempt{
			{Number: 1, Node: "dsvm-gpu-nc4as-t4-v3_12", VMID: "6f1cb0a4-5a53-4f47-9a55-0d6a1d8f7a11", State: job.AttemptSucceeded,
				AssignedAt: at, StartedAt: at.Add(time.Second), EndedAt: at.Add(time.Hour), GPUs: []int{0}},
		},
	}
	done, err := encodeJob("gpu", pool.DoneKey(j.Order), j)
	if err != nil {
		t.Fatal(err)
	}
	id := ID{ID: j.ID, Pool: "gpu", Order: j.Order, Hash: strings.Repeat("h", len(j.Spec.Hash())), Via: ByQueue, At: at}
	alive := encodeID(&id, strings.Repeat("n", 26))
	id.State, id.End = j.State, endOf(j)
	tomb := encodeID(&id, strings.Repeat("n", 26))
	row := usage.NewRow(
		usage.Entry{
			Kind:     usage.KindAttempt,
			Key:      j.Order + "!1",
			Pool:     "gpu",
			Team:     "vision",
			User:     "ann",
			Job:      j.ID,
			JobName:  j.Spec.Name,
			Attempt:  1,
			State:    "succeeded",
			Node:     "dsvm-gpu-nc4as-t4-v3_12",
			VMID:     j.Attempts[0].VMID,
			Size:     "Standard_NC4as_T4_v3",
			CPUs:     4,
			GPUs:     1,
			NodeCPUs: 4,
			NodeGPUs: 1,
			From:     at,
			To:       at.Add(time.Hour),
			Price:    "0.5260",
			Currency: "USD",
		},
	)
	ledger := encodeUsage("2026-01-31", "gpu!attempt!"+j.Order+"!1", &row)
	for _, c := range []struct {
		what string
		raw  []byte
		docs int // bytes, in docs/settings.md
	}{
		{"finished job", done, 1500}, {"id", alive, 420}, {"id with the end of its job", tomb, 700}, {"attempt in the ledger", ledger, 1400},
		{"a job in a list of what is to go", []byte(`{"Jobs":"` + j.Order + " " + j.ID + `n"}`), 130},
	} {
		size := billed(t, c.raw)
		t.Logf("%s: %d bytes", c.what, size)
		if size > c.docs*4/3 || size < c.docs*2/3 {
			t.Errorf("%s: %d bytes, and docs/settings.md counts with %d", c.what, size, c.docs)
		}
	}
}
