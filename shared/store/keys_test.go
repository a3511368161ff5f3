package store

import (
	"strings"
	"testing"
)

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
