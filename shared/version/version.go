// Package version says which release a program of this module is, so that an
// operator can see what runs where: the three programs print it, and write it
// in the first line of their logs. It decides nothing: what programs accept
// from each other is a question of protocol.Version alone.
package version

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"

	"dsvmpools/shared/protocol"
)

// A release sets these with
//
//	-ldflags "-X dsvmpools/shared/version.version=1.2.3 -X dsvmpools/shared/version.commit=... -X dsvmpools/shared/version.date=..."
//
// Any other build takes them from what the Go command wrote into the program.
var version, commit, date string

// unknown stands for a version that nothing is known about, as in tests.
const unknown = "devel"

// Info says which build a program is. Version is never empty; Commit and Date
// are empty if the program was built outside a checkout.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // the whole hash
	Date     string `json:"date"`   // of the commit, RFC 3339
	Go       string `json:"go"`     // such as go1.26.8
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Protocol int    `json:"protocol"` // protocol.Version: the `v` that it speaks with other programs
}

// Read returns what is known about the program that runs.
func Read() Info {
	build, _ := debug.ReadBuildInfo()
	return read(build)
}

// read adds the build's own notes to what a release has set. build may be nil.
func read(build *debug.BuildInfo) Info {
	i := Info{
		Version:  version,
		Commit:   commit,
		Date:     date,
		Go:       runtime.Version(),
		OS:       runtime.GOOS,
		Arch:     runtime.GOARCH,
		Protocol: protocol.Version,
	}
	if build != nil {
		if build.Main.Version != "(devel)" {
			i.Version = cmp.Or(i.Version, build.Main.Version)
		}
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				i.Commit = cmp.Or(i.Commit, s.Value)
			case "vcs.time":
				i.Date = cmp.Or(i.Date, s.Value)
			}
		}
	}
	i.Version = cmp.Or(i.Version, unknown)
	return i
}

// String is one line for a person.
func (i Info) String() string {
	text := i.Version
	if i.Commit != "" {
		text += ", commit " + i.Commit
	}
	if i.Date != "" {
		text += " of " + i.Date
	}
	return fmt.Sprintf("%s, %s, %s/%s, protocol %d", text, i.Go, i.OS, i.Arch, i.Protocol)
}

// LogAttributes returns the keys and values for the first line of a log.
func (i Info) LogAttributes() []any {
	return []any{"version", i.Version, "commit", i.Commit, "go", i.Go, "protocol", i.Protocol}
}

// PrintIfAsked writes the version of the named program if --version is its only
// argument, and reports whether it did. It is for programs without flags.
func PrintIfAsked(out io.Writer, program string, args []string) bool {
	if !slices.Equal(args, []string{"--version"}) {
		return false
	}
	fmt.Fprintln(out, program, "version", Read())
	return true
}
