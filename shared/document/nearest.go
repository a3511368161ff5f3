package document

import "strings"

// Nearest is the name that somebody may have meant by one that is not known; "" when
// none is near. At most two letters may be wrong, and half of the name.
func Nearest(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < distance && 2*d <= len(k) {
			best, distance = k, d
		}
	}
	return best
}
