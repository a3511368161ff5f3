package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
)

// TestJobListFilters: the filters are applied by the service, and a list that is cut says
// so.
func TestJobListFilters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 5 {
		b.app.Clock.Set(apptest.Noon.Add(time.Duration(i-5) * time.Minute))
		doc := fmt.Sprintf(`{"id":"x-%d","pool":%q,"name":"night %d","user":"bob","command":["true"],"labels":{"round":"%d"}}`,
			i, []string{"cpu", "gpu"}[i%2], i, i%2)
		if err := b.app.Submit(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	b.app.Clock.Set(apptest.Noon)
	for name, test := range map[string]struct {
		args []string
		ids  string
		note string
	}{
		"newest first over all pools": {[]string{}, "x-4 third x-3 x-2 x-1 x-0 second first", ""},
		"cut":                         {[]string{"--limit", "2"}, "x-4 third", "2 of 8 jobs shown; `--all` shows all of them, `--limit` more"},
		"cut with a filter":           {[]string{"--limit", "2", "--user", "bob"}, "x-4 x-3", "2 of 5 jobs shown"},
		"all":                         {[]string{"--all", "--user", "bob"}, "x-4 x-3 x-2 x-1 x-0", ""},
		"a part of the name":          {[]string{"--name", "NIGHT"}, "x-4 x-3 x-2 x-1 x-0", ""},
		"a pattern":                   {[]string{"--name", "*t 3"}, "x-3", ""},
		"a label":                     {[]string{"--label", "round=1"}, "x-3 x-1", ""},
		"two labels":                  {[]string{"--label", "round=1", "--label", "x=y"}, "", ""},
		"states":                      {[]string{"--state", "running,failed"}, "second first", ""},
		"a state as people write it":  {[]string{"--state", "timed out"}, "", ""},
		"since yesterday":             {[]string{"--since", "yesterday", "--until", "today"}, "", ""},
		"since":                       {[]string{"--since", "3m"}, "x-4 third x-3 x-2", ""},
		"until":                       {[]string{"--until", "2026-03-02 11:57"}, "x-1 x-0 second first", ""},
		"a day":                       {[]string{"--since", "2026-03-02", "--until", "2026-03-02T11:56:00Z"}, "x-0 second first", ""},
		"sorted":                      {[]string{"--sort", "ended", "--state", "failed,running"}, "first second", ""},
		"the other way round":         {[]string{"--reverse", "--user", "bob"}, "x-0 x-1 x-2 x-3 x-4", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := b.run(append([]string{"job", "list", "-o", "json"}, test.args...)...)
			var jobs []struct{ ID string }
			if err := json.Unmarshal([]byte(out), &jobs); err != nil {
				t.Fatal(err, out, errs)
			}
			ids := strings.Join(words(jobs, func(j struct{ ID string }) string { return j.ID }), " ")
			if code != 0 || ids != test.ids || (test.note == "") != (errs == "") || !strings.Contains(errs, test.note) {
				t.Errorf("got code %d, %q, note %q; want %q and %q", code, ids, errs, test.ids, test.note)
			}
		})
	}
	for args, want := range map[string]string{
		"job list --since soon":              "it takes how long ago",
		"job list --since 1h --until 2h":     "is not before",
		"job list --label round":             "it takes NAME=VALUE",
		"job list --all --limit 3":           "contradict each other",
		"job list --sort size":               "it takes one of submitted",
		"job list --limit 0":                 "a number from 1 up",
		"job list --label a=b --label a=c":   "two values",
		"job list --state rejected --user a": "only its id and its pool are kept",
	} {
		if code, _, errs := b.run(strings.Fields(args)...); code != codeWrongUse || !strings.Contains(errs, want) {
			t.Errorf("%s: got code %d, %q, want 2, %q", args, code, errs, want)
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 12468: "12,468", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
