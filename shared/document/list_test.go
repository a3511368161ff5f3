package document_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

func TestParseList(t *testing.T) {
	t.Parallel()
	items, err := document.ParseList([]byte("\xef\xbb\xbf[{\"a\": \"é\"},\n\n{\"a\":\n5}, [], {\"a\":1,\n\"a\":2}]"), 4)
	if err != nil || len(items) != 4 {
		t.Fatalf("got %d items, %v", len(items), err)
	}
	read := func(i int) error {
		node, err := items[i].Parse()
		if err != nil {
			return err
		}
		r := document.Read(node, "a")
		r.String("a", "x")
		return r.Err()
	}
	if err := read(0); err != nil {
		t.Error(err)
	}
	refused(t, read(1), "a", "line 4: `a` is a number; write a text, for example \"x\"")
	refused(t, read(2), "", "the document is a list; send an object with named fields")
	refused(t, read(3), "a", "line 5: `a` stands here a second time (first in line 4); keep one of them")
}

// A list whose documents have many small values costs little before they are parsed.
func TestLargeListCostsLittle(t *testing.T) {
	one := `{"command":[` + strings.TrimSuffix(strings.Repeat(`"x",`, 1000), ",") + `]}`
	body := []byte("[" + strings.TrimSuffix(strings.Repeat(one+",", 1000), ",") + "]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	items, err := document.ParseList(body, 1000)
	runtime.ReadMemStats(&after)
	if err != nil || len(items) != 1000 {
		t.Fatalf("got %d items, %v", len(items), err)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 16<<20 {
		t.Errorf("%d MiB for a list of %d MiB", taken>>20, len(body)>>20)
	}
}

func FuzzParseList(f *testing.F) {
	for _, seed := range []string{`[{"a":1},{"a":null}]`, "[\n5]", `[]`, `[{"a":1,"a":2}]`, `[{"a":[`, `{}`, "[\"\xff\"]", `[[[[]]]]`, `[null]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := document.ParseList(body, 10)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if len(items) == 0 || len(items) > 10 {
			t.Errorf("%d items", len(items))
		}
		for _, item := range items {
			node, err := item.Parse()
			if (node == nil) == (err == nil) {
				t.Errorf("got %+v, %v", node, err)
			}
			if err != nil {
				checkRefusal(t, err)
			}
		}
	})
}

func TestIsList(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{"": false, "\xef\xbb\xbf \n[": true, "{}": false, "- a": false} {
		if got := document.IsList([]byte(body)); got != want {
			t.Errorf("%q: got %t", body, got)
		}
	}
	var f *fault.Error
	if _, err := document.ParseList([]byte(`[{},{}`+strings.Repeat("]", 2)), 5); !errors.As(err, &f) {
		t.Errorf("got %v", err)
	}
}
