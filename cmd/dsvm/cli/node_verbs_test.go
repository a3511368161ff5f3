package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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
		"release":            {args: "node release dsvm-cpu-d2s-v5_1", out: "busy\n"},
		"drain":              {args: "node drain dsvm-cpu-d2s-v5_1 --pool cpu", out: "draining: drained by request; it leaves when its work has ended\n"},
		"delete":             {args: "node delete dsvm-cpu-d2s-v5_1 --yes", out: "deleting: deleted by request\n"},
		"delete, nobody":     {args: "node delete dsvm-cpu-d2s-v5_1", code: 2, errs: "nothing was deleted, since nobody can be asked here; with --yes, node \"dsvm-cpu-d2s-v5_1\" of pool \"cpu\", which is busy, is deleted, and 1 job on it begins again on other nodes"},
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
		code, out, errs := newBench(t).run(append(strings.Fields("node "+verb), "dsvm-cpu-d2s-v5_2", "-o", "json")...)
		var n map[string]any
		if err := json.Unmarshal([]byte(out), &n); code != 0 || err != nil || n["name"] != "dsvm-cpu-d2s-v5_2" || n["state"] == "" {
			t.Errorf("%s: got code %d, %v, %s %s", verb, code, err, out, errs)
		}
		if _, there := n["until"]; !there {
			t.Errorf("%s: `until` is missing in %s", verb, out)
		}
	}
}

// TestNodeOnItsWayOut: a node that cannot come back is named with its state.
func TestNodeOnItsWayOut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		verb, state string
		code        int
		errs        string
	}{
		"release deleting": {"release", "deleting", 1, `dsvm: node "n" is deleting and cannot take work again; its pool asks for another node when work waits`},
		"release gone":     {"release", "gone", 1, "dsvm: node \"n\" is gone; `dsvm node list` shows the nodes"},
		"release lost":     {"release", "lost", 1, `node "n" is lost and cannot take work again`},
		"release ready":    {"release", "ready", 0, ""},
		"release booting":  {"release", "booting", 0, ""},
		"drain gone":       {"drain", "gone", 0, `dsvm: node "n" is gone already`},
		"drain deleting":   {"drain", "deleting", 0, ""},
		"delete gone":      {"delete", "gone", 0, `dsvm: node "n" is gone already`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"name":"n","pool":"cpu","state":%q,"reason":"why"}`, test.state)
			}))
			t.Cleanup(web.Close)
			b.program.Getenv = func(name string) string { return map[string]string{"DSVM_URL": web.URL}[name] }
			args := []string{"node", test.verb, "n"}
			if test.verb == "delete" {
				args = append(args, "--yes")
			}
			code, out, errs := b.run(args...)
			if code != test.code || out != test.state+": why\n" || !strings.Contains(errs, test.errs) || test.errs == "" && errs != "" {
				t.Errorf("got code %d, %q and %q", code, out, errs)
			}
		})
	}
}

func TestNodeDeleteAsks(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes \r\n": true, "n\n": false, "": false, "\n": false, "yesterday\n": false, "y": true} {
		b := newBench(t)
		b.program.Asks, b.program.In = true, strings.NewReader(answer)
		code, _, errs := b.run("node", "delete", "dsvm-cpu-d2s-v5_1")
		if (code == 0) != want ||
			!strings.Contains(errs, "1 job on it begins again on other nodes\nDelete node dsvm-cpu-d2s-v5_1? [y/N]") {
			t.Errorf("%q: got code %d, asked %q", answer, code, errs)
		}
	}
}
