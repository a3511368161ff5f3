package push

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Limits of patterns. Their number of stars is bounded since each may multiply
// the time that a long name takes.
const (
	maxPatterns = 50
	maxPattern  = 200
	maxStars    = 10
)

func checkPattern(p string) error {
	p = strings.TrimPrefix(p, "!")
	switch {
	case p == "":
		return errors.New("it is empty; write a name or a pattern such as release/*")
	case len(p) > maxPattern:
		return fmt.Errorf("it has %d bytes; write at most %d", len(p), maxPattern)
	case strings.Count(p, "*") > maxStars:
		return fmt.Errorf("it has more than %d stars; make it simpler", maxStars)
	case !doublestar.ValidatePattern(p):
		return errors.New("its brackets or braces do not close")
	}
	return nil
}

// matches reports whether a list of patterns takes a name. The last pattern
// that fits decides; one that begins with ! takes the name out. A list that
// only takes out begins with everything.
func matches(patterns []string, name string) bool {
	taken := strings.HasPrefix(patterns[0], "!")
	for _, p := range patterns {
		bare, out := strings.CutPrefix(p, "!")
		if doublestar.MatchUnvalidated(bare, name) {
			taken = !out
		}
	}
	return taken
}

// matchesAny reports whether a list of patterns takes one of the names.
func matchesAny(patterns, names []string) bool {
	for _, name := range names {
		if matches(patterns, name) {
			return true
		}
	}
	return false
}
