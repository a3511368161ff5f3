package store

import (
	"strings"
	"testing"
)

func FuzzParsePlace(f *testing.F) {
	f.Add("")
	f.Add(place{Below: "01KD0000000000000000000000"}.String())
	f.Add(place{Done: true, After: "done!ZYJKD000000000000000000000"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err != nil {
			return
		}
		for _, k := range []string{p.Below, p.After} {
			if len(k) > 31 || strings.ContainsAny(k, "'\\/#? ") {
				t.Errorf("%q was taken for a key", k)
			}
		}
		if again, err := parsePlace(p.String()); err != nil || again != p {
			t.Errorf("%+v came back as %+v (%v)", p, again, err)
		}
	})
}

func TestIDKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, id, want string }{
		{"of a job", "my-job_1.2", "my-job_1.2"},
		{"what a key may not hold", "a/b#c?d\\e", "a!2Fb!23c!3Fd!5Ce"},
		{"the escape itself", "a!2F", "a!212f"},
		{"not ASCII", "é", "!C3!A9"},
	} {
		if got := idKey(c.id); got != c.want {
			t.Errorf("%s: idKey(%q) = %q, want %q", c.name, c.id, got, c.want)
		}
	}
	long := idKey(strings.Repeat("x", 1000))
	if len(long) > maxIDKey || long == idKey(strings.Repeat("x", 1001)) {
		t.Errorf("a long id has the key %q, want a short one of its own", long)
	}
}
