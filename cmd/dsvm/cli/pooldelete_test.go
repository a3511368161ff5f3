package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

// Deleting a pool says what it ends, and is wanted by somebody.
func TestPoolDeleteAsks(t *testing.T) {
	t.Parallel()
	const says = `pool "cpu" is deleted with 2 nodes, and 1 waiting job and 1 running job end as cancelled: how its jobs ended, their logs and outputs`
	for name, test := range map[string]struct {
		args    string
		asks    bool
		in      string
		code    int
		out     string
		says    string
		deleted bool
	}{
		"no terminal":       {"pool delete cpu", false, "y\n", 2, "", says, false},
		"no terminal, json": {"pool delete cpu -o json", false, "", 2, "", "--yes", false},
		"yes":               {"pool delete cpu --yes", false, "", 0, "cpu\n", says, true},
		"y":                 {"pool delete cpu -y", true, "", 0, "cpu\n", says, true},
		"asked, yes":        {"pool delete cpu", true, "Yes\n", 0, "cpu\n", says, true},
		"asked, no":         {"pool delete cpu", true, "n\n", 1, "", says, false},
		"asked, nothing":    {"pool delete cpu", true, "\n", 1, "", "nothing was deleted", false},
		"asked, the end":    {"pool delete cpu", true, "", 1, "", "nothing was deleted", false},
		"asked, something":  {"pool delete cpu", true, strings.Repeat("y", 1000), 1, "", "nothing was deleted", false},
		"no such pool":      {"pool delete none", false, "", 1, "", "there is no pool", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.program.Asks, b.program.In = test.asks, strings.NewReader(test.in)
			code, out, errs := b.run(strings.Fields(test.args)...)
			if code != test.code || out != test.out || !strings.Contains(errs, test.says) {
				t.Errorf("got code %d, %q and %q; want %d, %q and %q", code, out, errs, test.code, test.out, test.says)
			}
			code, _, _ = b.run("pool", "show", "cpu")
			state, _, _ := strings.Cut(b.out.String()[max(strings.Index(b.out.String(), "state"), 0):], "\n")
			if deleted := code != 0 || strings.Contains(state, "deleting"); deleted != test.deleted {
				t.Errorf("deleted is %v (%s), want %v", deleted, state, test.deleted)
			}
		})
	}
}

// What -o json says of a pool that went at once has the shape of every pool.
func TestDeletedPoolIsAPool(t *testing.T) {
	t.Parallel()
	code, out, errs := newBench(t).run("pool", "delete", "gpu", "--yes", "-o", "json")
	var p map[string]any
	if err := json.Unmarshal([]byte(out), &p); code != 0 || err != nil {
		t.Fatalf("got code %d, %v, %s%s", code, err, out, errs)
	}
	if _, list := p["rungs"].([]any); !list || p["kind"] != "batch" || p["state"] != "deleting" {
		t.Errorf("got %s", out)
	}
}
