package workfolder

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// mayMatchBelow reports whether a rule may be about something in a folder: each part of
// the folder's path matches the part of the pattern, as far as that can be said.
func (r rule) mayMatchBelow(folder string) bool {
	parts := strings.Split(r.pattern, "/")
	for i, name := range strings.Split(folder, "/") {
		if i >= len(parts) {
			return true // the rule is about a folder above: that has said all
		}
		if parts[i] == "**" {
			return true
		}
		if !doublestar.MatchUnvalidated(parts[i], name) {
			return false
		}
	}
	return true
}
