package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestErrorsAsJSON: with -o json an error is one line of JSON on standard error, whose
// type a script can act on, and the exit code is the same.
func TestErrorsAsJSON(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, test := range map[string]struct {
		args string
		env  map[string]string
		want Problem // without title and detail
		says string
	}{
		"no such pool":    {"pool show none", nil, Problem{Type: "urn:dsvm:problem:notFound", Status: 404, Field: "pool", ExitCode: 1}, "dsvm pool list"},
		"taken":           {"job submit --pool cpu --id first -- true", nil, Problem{Type: "urn:dsvm:problem:conflict", Status: 409, Field: "id", ExitCode: 1}, "another id"},
		"invalid there":   {"job list --state rejected --user a", nil, Problem{Type: "urn:dsvm:problem:invalid", Status: 400, Field: "state", ExitCode: 2}, "only its id"},
		"invalid here":    {"job list --limit 0", nil, Problem{Type: "urn:dsvm:problem:wrongUse", ExitCode: 2}, "--limit"},
		"no verb":         {"rejected", nil, Problem{Type: "urn:dsvm:problem:wrongUse", ExitCode: 2}, "`dsvm rejected --help` lists its commands"},
		"an unknown flag": {"job list --frob", nil, Problem{Type: "urn:dsvm:problem:wrongUse", ExitCode: 2}, "`dsvm job list --help` shows how it is called"},
		"a near flag":     {"job list --stat failed", nil, Problem{Type: "urn:dsvm:problem:wrongUse", ExitCode: 2}, "there is no flag --stat; did you mean --state?"},
		"a failed job":    {"job wait first", nil, Problem{Type: "urn:dsvm:problem:jobEnded", ExitCode: 3}, "job first failed with exit code 3"},
		"unreachable":     {"pool list", map[string]string{"DSVM_URL": closed.URL}, Problem{Type: "urn:dsvm:problem:unreachable", ExitCode: 1}, "nothing answers"},
		"no instance":     {"pool list", map[string]string{}, Problem{Type: "urn:dsvm:problem:failed", ExitCode: 1}, "no instance is found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if test.env != nil {
				b.program.Getenv = func(name string) string { return test.env[name] }
			}
			code, _, errs := b.run(append(strings.Fields(strings.ReplaceAll(test.args, " -- true", "")), strings.Fields("-o json -- true")[:jsonArgs(test.args)]...)...)
			var got Problem
			if err := json.Unmarshal([]byte(errs), &got); err != nil || strings.Count(errs, "\n") != 1 {
				t.Fatalf("%v in %q", err, errs)
			}
			title, detail := got.Title, got.Detail
			got.Title, got.Detail = "", ""
			if got != test.want || code != test.want.ExitCode || title == "" || !strings.Contains(detail, test.says) {
				t.Errorf("got code %d, %+v, title %q, detail %q; want %+v and %q", code, got, title, detail, test.want, test.says)
			}
		})
	}
	b := newBench(t)
	b.program.Getenv = func(name string) string { return map[string]string{"DSVM_URL": closed.URL}[name] }
	if _, _, errs := b.run("--frob", "--output=json"); !strings.HasPrefix(errs, "{") {
		t.Errorf("an unknown flag before -o json: got %q", errs)
	}
}

// jsonArgs is how many of "-o json -- true" belong to a command.
func jsonArgs(args string) int {
	if strings.HasSuffix(args, " -- true") {
		return 4
	}
	return 2
}
