package cli

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local/chaos"
)

func newFaults(t *testing.T) (*bench, *chaos.Set) {
	t.Helper()
	b := newBench(t)
	set := chaos.New(4)
	web := httptest.NewServer((&chaos.Control{Set: set, Key: "control",
		Evict:  func(string) error { return nil },
		Remove: func(name string) error { return os.ErrNotExist }}).Handler())
	t.Cleanup(web.Close)
	doc, err := json.Marshal(Instance{URL: b.program.Getenv("DSVM_URL"), Key: "secret", Control: web.URL, ControlKey: "control"})
	if err != nil {
		t.Fatal(err)
	}
	b.program.Getenv = func(string) string { return "" }
	name := filepath.Join(b.program.Dir, InstanceFolder, InstanceFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return b, set
}

func TestFaults(t *testing.T) {
	t.Parallel()
	b, set := newFaults(t)
	if code, _, errs := b.run("fault", "add", "delay", "tables/insert/pools", "--delay", "1500ms", "--probability", "0.25"); code != 0 {
		t.Fatalf("got %d: %s", code, errs)
	}
	if code, _, errs := b.run("fault", "add", "partial", "compute/allocate", "--amount", "2", "--count", "1"); code != 0 {
		t.Fatalf("got %d: %s", code, errs)
	}
	rules, _ := set.List()
	if len(rules) != 2 || rules[0].Delay.String() != "1.5s" || rules[0].Probability != 0.25 || rules[1].Amount != 2 || rules[1].Count != 1 {
		t.Errorf("got %+v", rules)
	}
	if _, out, errs := b.run("fault", "list"); !strings.Contains(out, "tables/insert/pools") || !strings.Contains(out, "grants 2") ||
		!strings.Contains(errs, "seed 4") {
		t.Errorf("got %s%s", out, errs)
	}
	_, out, errs := b.run("fault", "seed", "9", "-o", "json")
	var listed []chaos.Document
	if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != 2 || !strings.Contains(errs, "seed 9") {
		t.Errorf("got %s, %s, %v", out, errs, err)
	}
	none, _ := newFaults(t)
	if _, out, _ := none.run("fault", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("got %s of no rules, want an empty array", out)
	}
	if code, _, errs := b.run("fault", "clear", "1"); code != 0 {
		t.Errorf("got %d: %s", code, errs)
	}
	if code, _, _ := b.run("fault", "evict", "cpu-1"); code != 0 {
		t.Errorf("evict: got %d", code)
	}
	if rules, _ := set.List(); len(rules) != 1 || rules[0].ID != "2" {
		t.Errorf("got %+v after one was cleared", rules)
	}
}

func TestFaultsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such fault":  {[]string{"add", "melt", "tables"}, 2, "there are delay, refuse"},
		"no such server": {[]string{"add", "refuse", "blob"}, 2, "servicebus, tables"},
		"no target":      {[]string{"add", "refuse"}, 2, "takes a fault and a target"},
		"no such rule":   {[]string{"clear", "17"}, 1, "no rule has the id 17"},
		"no seed":        {[]string{"seed", "many"}, 2, "whole number"},
		"no instance":    {[]string{"remove", "cpu-1"}, 1, "not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newFaults(t)
			code, _, errs := b.run(append([]string{"fault"}, test.args...)...)
			if code != test.code || !strings.Contains(errs, test.says) {
				t.Errorf("got %d: %s; want %d and %q", code, errs, test.code, test.says)
			}
		})
	}
	b := newBench(t)
	if code, _, errs := b.run("fault", "list"); code != 1 || !strings.Contains(errs, "takes no faults") {
		t.Errorf("an instance in the cloud: got %d: %s", code, errs)
	}
}
