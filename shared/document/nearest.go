package document

import "strings"

// Nearest is the known name that a misspelled one is most like, whatever its letter case;
// "" = none is near. Half of a name may differ at most: everything short is near otherwise.
func Nearest(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < distance && 2*d <= len(k) {
			best, distance = k, d
		}
	}
	return best
}
