package version

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"dsvmpools/shared/protocol"
)

func TestRead(t *testing.T) {
	t.Parallel()
	fromBuild := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.0.0-20260131120000-0123456789ab"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-01-31T12:00:00Z"}},
	}
	for _, c := range []struct {
		name  string
		build *debug.BuildInfo
		want  Info
	}{
		{"a checkout", fromBuild, Info{Version: "v0.0.0-20260131120000-0123456789ab", Commit: "0123456789abcdef", Date: "2026-01-31T12:00:00Z"}},
		{"a folder", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{Version: "devel"}},
		{"no notes", nil, Info{Version: "devel"}},
	} {
		want := c.want
		want.Go, want.OS, want.Arch, want.Protocol = runtime.Version(), runtime.GOOS, runtime.GOARCH, protocol.Version
		if got := read(c.build); got != want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	i := Info{Version: "1.2.3", Commit: "abc", Date: "2026-01-31T12:00:00Z", Go: "go1.26.8", OS: "linux", Arch: "amd64", Protocol: 1}
	if got, want := i.String(), "1.2.3, commit abc of 2026-01-31T12:00:00Z, go1.26.8, linux/amd64, protocol 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	i.Commit, i.Date = "", ""
	if got, want := i.String(), "1.2.3, go1.26.8, linux/amd64, protocol 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPrintIfAsked(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if PrintIfAsked(&out, "agent", []string{"--help"}) || out.Len() > 0 {
		t.Errorf("a version that nobody asked for: %q", &out)
	}
	if !PrintIfAsked(&out, "agent", []string{"--version"}) {
		t.Error("the version was not printed")
	}
	if want := "agent version " + Read().String() + "\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// The variables that the release sets exist under the names that it uses: the
// linker ignores a name that it does not find.
func TestRelease(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	release, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := "package main\n\nimport (\n\t\"os\"\n\n\t\"dsvmpools/shared/version\"\n)\n\nfunc main() { version.PrintIfAsked(os.Stdout, \"program\", []string{\"--version\"}) }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	var flags []string
	for name, value := range map[string]string{"version": "1.2.3", "commit": "fedcba", "date": "2026-01-31T12:00:00Z"} {
		variable := "dsvmpools/shared/version." + name + "="
		if !strings.Contains(string(release), "-X "+variable) {
			t.Errorf(".goreleaser.yaml does not set %s", variable)
		}
		flags = append(flags, "-X "+variable+value)
	}
	run := exec.CommandContext(t.Context(), "go", "run", "-ldflags", strings.Join(flags, " "), filepath.Join(dir, "main.go"))
	run.Dir = root
	got, err := run.CombinedOutput()
	want := fmt.Sprintf("program version 1.2.3, commit fedcba of 2026-01-31T12:00:00Z, %s, %s/%s, protocol %d\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, protocol.Version)
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
