//go:build unix

package agent

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"dsvmpools/shared/protocol"
)

// TestDocumentedMessages reads the examples of docs/protocol.md.
func TestDocumentedMessages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, block := range strings.Split(string(text), "```json ")[1:] {
		kind, rest, _ := strings.Cut(block, "\n")
		example, _, _ := strings.Cut(rest, "```")
		seen[kind]++
		var err error
		var again any
		switch kind {
		case "work":
			again, err = protocol.DecodeWork([]byte(example))
		case "report":
			again, err = protocol.DecodeReport([]byte(example))
		}
		if err != nil {
			t.Errorf("%s: %v", example, err)
			continue
		}
		got, _ := json.Marshal(again)
		if want := strings.TrimSpace(example); string(got) != want {
			t.Errorf("read and written again: got %s, want %s", got, want)
		}
	}
	if seen["work"] < 4 || seen["report"] < 3 {
		t.Errorf("examples: got %v", seen)
	}
}

func TestReportsAreSplit(t *testing.T) {
	t.Parallel()
	const count = 2000
	report := protocol.Report{V: protocol.Version, Pool: "cpu", VMID: "vm-1", Seen: 7}
	for n := range int64(count) {
		report.Items = append(report.Items, protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "failed", Reason: shorten(strings.Repeat("<", 9999))}})
	}
	next := int64(0)
	bodies := split(report)
	for _, body := range bodies {
		r, err := protocol.DecodeReport(body) // refuses what is too long
		if err != nil {
			t.Fatal(err)
		}
		if r.Seen != 7 || r.Pool != "cpu" || r.VMID != "vm-1" {
			t.Errorf("got %+v", r)
		}
		for _, i := range r.Items {
			if i.Finished.N != next {
				t.Fatalf("got %d, want %d", i.Finished.N, next)
			}
			next++
		}
	}
	if next != count || len(bodies) < 2 {
		t.Errorf("got %d items in %d messages", next, len(bodies))
	}
}
