package table

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		units      int
		want       string
	}{
		{"short", "abc", 3, "abc"},
		{"ascii", "abcd", 3, "abc"},
		{"two bytes, one unit", "ééé", 2, "éé"},
		{"never half of a pair", "a😀b", 2, "a"},
		{"whole pair", "a😀b", 3, "a😀"},
		{"empty", "", 3, ""},
	} {
		if got := Cut(c.text, c.units); got != c.want {
			t.Errorf("%s: Cut(%q, %d) = %q, want %q", c.name, c.text, c.units, got, c.want)
		}
	}
}

func TestStringsAreEncodedLikeTheClientDoes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", "a\"b", `a\b`, "<&>", "\x00\x1f\x7f", "é世😀", "\xff", "\u2028"} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("appendString(%q) = %s, want %s", s, got, want)
		}
	}
}

// TestLongText makes sure that a text of any length comes back, also when a merge
// puts a shorter or a longer one in its place.
func TestLongText(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"none":                 "",
		"short":                "abc",
		"one property":         strings.Repeat("x", ChunkUnits),
		"two properties":       strings.Repeat("x", ChunkUnits) + "y",
		"pairs across borders": "a" + strings.Repeat("😀", ChunkUnits),
		"all properties":       strings.Repeat("é", LongUnits),
		"its own name":         `"Doc1":"` + strings.Repeat(`"`, ChunkUnits),
	}
	read := func(t *testing.T, row map[string]any) string {
		raw, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := row["Doc"].(string)
		text, err := LongText(raw, "Doc", first)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, text := range texts {
		e := NewRow("p", "r")
		if !e.Long("Doc", text) {
			t.Errorf("%s: it does not fit", name)
		}
		row := map[string]any{}
		if err := json.Unmarshal(e.JSON(), &row); err != nil {
			t.Fatal(err)
		}
		if got := read(t, row); got != text {
			t.Errorf("%s: %d bytes came back, want %d", name, len(got), len(text))
		}
		for next, want := range texts {
			merge := NewRow("p", "r")
			if !merge.LongInPlaceOf("Doc", text, want) {
				t.Errorf("%s: it does not fit", next)
			}
			merged := maps.Clone(row)
			if err := json.Unmarshal(merge.JSON(), &merged); err != nil {
				t.Fatal(err)
			}
			if got := read(t, merged); got != want {
				t.Errorf("%s in place of %s: %d bytes came back, want %d", next, name, len(got), len(want))
			}
		}
	}
	e := NewRow("p", "r")
	if e.Text("Before", "b"); e.Long("Doc", strings.Repeat("x", LongUnits+1)) {
		t.Error("a text that is too long fits")
	}
	if got := string(e.JSON()); got != `{"PartitionKey":"p","RowKey":"r","Before":"b"}` {
		t.Errorf("a text that does not fit leaves %.200s", got)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	small, large := Operation{Row: []byte("{}")}, Operation{Row: make([]byte, maxBytes/2)}
	for _, c := range []struct {
		name string
		all  []Operation
		want []int
	}{
		{"none", nil, nil},
		{"as many as rows fit", slices.Repeat([]Operation{small}, 2*MaxRows+1), []int{MaxRows, MaxRows, 1}},
		{"as many as bytes fit", []Operation{small, large, large, small}, []int{2, 2}},
	} {
		var got []int
		for _, batch := range Batches(c.all) {
			got = append(got, len(batch))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: batches of %v, want %v", c.name, got, c.want)
		}
	}
}
