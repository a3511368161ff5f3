package protocol_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/protocol"
)

// list is a message as Split takes it.
type list struct {
	Name  string   `json:"name"`
	Items []string `json:"items"`
}

// TestSplitAtTheLimit: a body that has exactly as many bytes as are allowed is one
// message, one byte more makes it two, and an item that fits into no message is an
// error.
func TestSplitAtTheLimit(t *testing.T) {
	t.Parallel()
	const empty = `{"name":"<n>","items":[]}` // "<" and ">" need six bytes each in JSON
	head := len(empty) + 2*5
	for _, test := range []struct {
		name  string
		limit int
		items []string
		want  []int // items of each message; nil = an error
	}{
		{"no items", head, nil, []int{}},
		{"exactly one item", head + 5, []string{"abc"}, []int{1}},
		{"one byte too little for the item", head + 4, []string{"abc"}, nil},
		{"exactly two items", head + 5 + 1 + 5, []string{"abc", "def"}, []int{2}},
		{"one byte too little for two", head + 5 + 5, []string{"abc", "def"}, []int{1, 1}},
		{"exactly three items", head + 3*5 + 2, []string{"abc", "def", "ghi"}, []int{3}},
		{"one byte too little for three", head + 3*5 + 1, []string{"abc", "def", "ghi"}, []int{2, 1}},
		{"the last item is too large", head + 5, []string{"abc", "defg"}, nil},
		{"an item that JSON makes longer", head + 5, []string{"<"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bodies, err := protocol.Split(test.limit, list{"<n>", []string{}}, test.items)
			if (err != nil) != (test.want == nil) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			got := []int{}
			for _, items := range checkBodies(t, test.limit, bodies) {
				got = append(got, len(items))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got messages of %v items, want %v", got, test.want)
			}
		})
	}
}

// checkBodies reads the bodies and returns the items of each.
func checkBodies(t *testing.T, limit int, bodies [][]byte) [][]string {
	t.Helper()
	var all [][]string
	for _, body := range bodies {
		var read list
		if err := json.Unmarshal(body, &read); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if len(body) > limit || read.Name != "<n>" || len(read.Items) == 0 {
			t.Fatalf("got %d bytes of at most %d: %s", len(body), limit, body)
		}
		if again, err := json.Marshal(read); err != nil || string(again) != string(body) {
			t.Fatalf("got %s, want what json.Marshal writes: %s, %v", body, again, err)
		}
		all = append(all, read.Items)
	}
	return all
}

// TestSplitNeedsTheListLast: a message in whose end no items can be put is refused.
func TestSplitNeedsTheListLast(t *testing.T) {
	t.Parallel()
	for _, message := range []any{struct{}{}, list{}, []int{}, func() {}} { // a nil list is null
		if bodies, err := protocol.Split(1000, message, []string{"a"}); err == nil {
			t.Errorf("%T: got %q", message, bodies)
		}
	}
}

// FuzzSplit: whatever the items and the limit, the messages hold all items in their
// order, none has more bytes than allowed, and none could take the next one's first
// item too.
func FuzzSplit(f *testing.F) {
	f.Add(60, "a,bb,ccc,<dddd>")
	f.Add(41, ",,,")
	f.Add(200<<10, strings.Repeat("x,", 1000))
	f.Add(-1, "a")
	f.Fuzz(func(t *testing.T, limit int, text string) {
		items := strings.Split(strings.ToValidUTF8(text, "?"), ",")
		bodies, err := protocol.Split(limit, list{"<n>", []string{}}, items)
		if err != nil {
			for _, item := range items {
				if one, _ := json.Marshal(list{"<n>", []string{item}}); len(one) > limit {
					return
				}
			}
			t.Fatalf("got %v although every item fits", err)
		}
		var got []string
		for i, part := range checkBodies(t, limit, bodies) {
			if first, _ := json.Marshal(part[0]); i > 0 && len(bodies[i-1])+1+len(first) <= limit {
				t.Fatalf("message %d has room for the first item of the next", i-1)
			}
			got = append(got, part...)
		}
		if !slices.Equal(got, items) {
			t.Fatalf("got %q, want %q", got, items)
		}
	})
}

func ExampleSplit() {
	message := protocol.Work{V: protocol.Version, Items: []protocol.WorkItem{}}
	items := []protocol.WorkItem{
		{Here: true},
		{Ack: []int64{7, 8}},
		{N: 9, Cancel: &protocol.Cancel{Target: 6}},
	}
	for _, limit := range []int{59, 58} {
		bodies, err := protocol.Split(limit, message, items)
		fmt.Println(len(bodies), err)
		for _, body := range bodies {
			fmt.Println(string(body))
		}
	}
	// Output:
	// 2 <nil>
	// {"v":1,"items":[{"here":true},{"ack":[7,8]}]}
	// {"v":1,"items":[{"n":9,"cancel":{"target":6,"reason":""}}]}
	// 0 item 2 of a message needs 59 bytes; a message has at most 58
}
