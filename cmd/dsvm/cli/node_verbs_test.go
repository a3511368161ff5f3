package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestNodeVerbs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args      string
		code      int
		out, errs string
	}{
		"release":            {args: "node release dsvm-cpu_1", out: "ready\n"},
		"drain":              {args: "node drain dsvm-cpu_1 --pool cpu", out: "draining\n"},
		"delete":             {args: "node delete dsvm-cpu_1 --yes", out: "deleting\n"},
		"delete, nobody":     {args: "node delete dsvm-cpu_1", code: 2, errs: "node dsvm-cpu_1 of pool cpu is busy and will be deleted; jobs on it: 1, which begin again elsewhere; nobody can be asked here: say --yes"},
		"no such node":       {args: "node release none", code: 1, errs: "dsvm node list"},
		"delete what is not": {args: "node delete none", code: 1, errs: "dsvm node list"},
		"no node":            {args: "node drain", code: 2, errs: "NAME or the id of a node"},
		"two nodes":          {args: "node drain a b", code: 2, errs: "NAME or the id of a node"},
		"misspelt":           {args: "node relase a", code: 2, errs: `did you mean "release"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := newBench(t).run(strings.Fields(test.args)...)
			if code != test.code || out != test.out || !strings.Contains(errs, test.errs) {
				t.Errorf("got code %d, %q and %q", code, out, errs)
			}
		})
	}
	for _, verb := range []string{"release", "drain", "delete --yes"} {
		code, out, errs := newBench(t).run(append(strings.Fields("node "+verb), "dsvm-cpu_2", "-o", "json")...)
		var n map[string]any
		if err := json.Unmarshal([]byte(out), &n); code != 0 || err != nil || n["name"] != "dsvm-cpu_2" || n["state"] == "" {
			t.Errorf("%s: got code %d, %v, %s %s", verb, code, err, out, errs)
		}
		if _, there := n["until"]; !there {
			t.Errorf("%s: `until` is missing in %s", verb, out)
		}
	}
}

func TestAgreed(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes \r\n": true, "n\n": false, "": false, "\n": false, "yesterday\n": false, "y": true, strings.Repeat(" ", 1000) + "y\n": false} {
		var out bytes.Buffer
		if got := agreed(strings.NewReader(answer), &out, "node a will be deleted. Go on?"); got != want || !strings.Contains(out.String(), "node a will be deleted. Go on? [y/N]") {
			t.Errorf("%q: got %v, asked %q", answer, got, out.String())
		}
	}
}
