package cli

import (
	"bytes"
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
