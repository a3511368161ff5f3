package protocol_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/protocol"
)

// TestDocumentedMessages reads the examples of docs/protocol.md.
func TestDocumentedMessages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/protocol.md")
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

// TestReportsAreSplit: each message of a long report says who the node is.
func TestReportsAreSplit(t *testing.T) {
	t.Parallel()
	const count = 2000
	report := protocol.Report{Pool: "cpu", VMID: "vm-1", Seen: 7}
	for n := range int64(count) {
		report.Items = append(report.Items, protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "failed",
			Reason: strings.Repeat("<", 500)}})
	}
	bodies, err := protocol.EncodeReport(report)
	if err != nil {
		t.Fatal(err)
	}
	next := int64(0)
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

// TestWorkIsSplit: items that fit into one message are one, and each message is one
// that an agent reads.
func TestWorkIsSplit(t *testing.T) {
	t.Parallel()
	var items []protocol.WorkItem
	for n := int64(1); n <= 10; n++ {
		items = append(items, protocol.WorkItem{N: n, Assign: &protocol.Assignment{Job: "j", Attempt: 1, Script: strings.Repeat("x", 50<<10)}})
	}
	for count, want := range map[int]int{0: 0, 1: 1, 3: 1, 4: 2, 10: 4} {
		bodies, err := protocol.EncodeWork(items[:count])
		if err != nil || len(bodies) != want {
			t.Errorf("%d items: got %d messages and %v, want %d", count, len(bodies), err, want)
		}
		next := int64(1)
		for _, body := range bodies {
			w, err := protocol.DecodeWork(body)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range w.Items {
				if item.N != next {
					t.Fatalf("got %d, want %d", item.N, next)
				}
				next++
			}
		}
		if next != int64(count)+1 {
			t.Errorf("got items up to %d of %d", next-1, count)
		}
	}
}

// ExampleEncodeWork is what a pool sends to a node to have one attempt run.
func ExampleEncodeWork() {
	bodies, err := protocol.EncodeWork([]protocol.WorkItem{{N: 12, Assign: &protocol.Assignment{
		Job:            "nightly-1",
		Attempt:        1,
		Team:           "vision",
		Command:        []string{"python", "train.py"},
		CPUs:           4,
		Memory:         8 << 30,
		TimeoutSeconds: 7200,
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, body := range bodies {
		var pretty bytes.Buffer
		json.Indent(&pretty, body, "", " ")
		fmt.Println(pretty.String())
	}
	// Output:
	// {
	//  "v": 1,
	//  "items": [
	//   {
	//    "n": 12,
	//    "assign": {
	//     "job": "nightly-1",
	//     "attempt": 1,
	//     "team": "vision",
	//     "command": [
	//      "python",
	//      "train.py"
	//     ],
	//     "cpus": 4,
	//     "memory": 8589934592,
	//     "timeoutSeconds": 7200
	//    }
	//   }
	//  ]
	// }
}

// FuzzDecode: a body that is read can be written, and reads the same then.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"items":[{"n":9,"cancel":{"target":6,"reason":"enough"}},{"ack":[7,8]},{"here":true}]}`))
	f.Add([]byte(`{"v":1,"pool":"cpu","vmid":"vm-1","seen":9,"items":[{"holds":{"n":[8,9],"lost":3}}]}`))
	f.Add([]byte(`{"fenced":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		protocol.IsFenced(body)
		if w, err := protocol.DecodeWork(body); err == nil {
			checkRoundTrip(t, w.Items, func(items []protocol.WorkItem) ([][]byte, error) {
				return protocol.EncodeWork(items)
			}, func(body []byte) ([]protocol.WorkItem, error) {
				w, err := protocol.DecodeWork(body)
				return w.Items, err
			})
		}
		if r, err := protocol.DecodeReport(body); err == nil {
			checkRoundTrip(t, r.Items, func(items []protocol.ReportItem) ([][]byte, error) {
				r.Items = items
				return protocol.EncodeReport(r)
			}, func(body []byte) ([]protocol.ReportItem, error) {
				again, err := protocol.DecodeReport(body)
				if err == nil && (again.Pool != r.Pool || again.VMID != r.VMID || again.Seen != r.Seen) {
					t.Errorf("got %+v, want the head of %+v", again, r)
				}
				return again.Items, err
			})
		}
	})
}

// checkRoundTrip writes items, reads them and writes them once more: the bodies must be
// the same.
func checkRoundTrip[T any](t *testing.T, items []T, encode func([]T) ([][]byte, error), decode func([]byte) ([]T, error)) {
	t.Helper()
	first, err := encode(items)
	if err != nil {
		return // what was short enough may be longer when JSON escapes it
	}
	var read []T
	for _, body := range first {
		part, err := decode(body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		read = append(read, part...)
	}
	second, err := encode(read)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Fatalf("got %s, %v; want %s", second, err, first)
	}
}
