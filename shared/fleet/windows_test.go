package fleet

import (
	"regexp"
	"strings"
	"testing"
)

func windows(m *Model) { m.Windows, m.License, m.SSHPublicKey = true, "Windows_Server", "" }

// The password is in the body that makes a set, another one each time, and does not change what
// the model is called: otherwise each process would write the set again.
func TestThePasswordOfWindows(t *testing.T) {
	t.Parallel()
	m := full()
	windows(&m)
	if err := m.check(); err != nil {
		t.Error(err)
	}
	const path = profilePath + "osProfile.adminPassword"
	first := written(t, m, form{isNew: true})(path).(string)
	second := written(t, m, form{isNew: true})(path).(string)
	if first == second || len(first) < 12 || len(first) > 72 {
		t.Errorf("got %q and %q", first, second)
	}
	for _, kind := range []string{`[a-z]`, `[A-Z]`, `[0-9]`, `[^A-Za-z0-9]`} {
		if !regexp.MustCompile(kind).MatchString(first) {
			t.Errorf("Azure wants one of %s in %q", kind, first)
		}
	}
	if hash := m.Hash("dsvm-lab-d4s-v5"); hash != m.Hash("dsvm-lab-d4s-v5") {
		t.Error("the hash changes with the password")
	}
	linux := full()
	if m.Hash("s") == linux.Hash("s") {
		t.Error("Windows has the same hash as Linux")
	}
	if written(t, linux, form{isNew: true})(path) != nil {
		t.Error("Linux has a password")
	}
	m.License = "mine"
	if err := m.check(); err == nil || !strings.Contains(err.Error(), "Windows_Server") {
		t.Errorf("a license that is none: %v", err)
	}
}

// Windows takes computer names of 15 characters, of which Azure adds 6.
func TestNamesOfWindowsComputers(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"dsvm-lab-d4s-v5", "dsvm-a", strings.Repeat("x", 60)} {
		if got := computerPrefix(set); len(got)+6 > 15 || !regexp.MustCompile(`^[a-z][a-z0-9]*$`).MatchString(got) {
			t.Errorf("%s: %q", set, got)
		}
	}
}
