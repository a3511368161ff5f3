package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"dsvmpools/shared/version"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--version", "dsvm version " + version.Read().String() + "\n"},
		{"version", version.Read().Go},
	} {
		var out, errs bytes.Buffer
		p := &Program{Out: &out, Err: &errs}
		code := p.Main(t.Context(), strings.Fields(c.args))
		if code != 0 || errs.Len() > 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: got code %d, %q and %q, want %q", c.args, code, &out, &errs, c.want)
		}
	}
}

// TestVersionAsJSON: scripts find the release, its commit and date, and the protocol that
// pool and agent speak.
func TestVersionAsJSON(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	p := &Program{Out: &out, Err: &errs}
	if code := p.Main(t.Context(), []string{"version", "-o", "json"}); code != 0 {
		t.Fatalf("got code %d, %q", code, &errs)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "commit", "date", "go", "os", "arch", "protocol"} {
		if _, ok := got[key]; !ok {
			t.Errorf("%s is missing in %s", key, &out)
		}
	}
}
