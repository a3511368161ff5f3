package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"dsvmpools/shared/version"
)

// The parts that this program plays say their version, and begin their logs
// with it.
func TestRolesSayTheirVersion(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"agent", "handler"} {
		asked := exec.CommandContext(t.Context(), self, role, "--version")
		asked.Env = []string{}
		out, err := asked.Output()
		if want := role + " version " + version.Read().String() + "\n"; err != nil || string(out) != want {
			t.Errorf("%s --version: got %q, %v, want %q", role, out, err, want)
		}
		unset := exec.CommandContext(t.Context(), self, role) // ends at once: it has no settings
		unset.Env = []string{}
		out, err = unset.Output()
		first, _, _ := strings.Cut(string(out), "\n")
		if want := "starting " + role; err == nil || !strings.Contains(first, want) ||
			!strings.Contains(first, "version="+version.Read().Version+" ") {
			t.Errorf("%s without settings: got %q first and %v, want %q with the version", role, first, err, want)
		}
	}
}
