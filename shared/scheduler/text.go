package scheduler

import (
	"fmt"
	"strings"
	"time"
)

// nextStep is what something waits for that needs nothing else.
const nextStep = "the next step; nothing has to be done"

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// countJobs and nodes write a number with its noun and verb.
func countJobs(n int, one, more string) string  { return countText(n, "job", one, more) }
func countNodes(n int, one, more string) string { return countText(n, "node", one, more) }

func countText(n int, noun, one, more string) string {
	verb := one
	if n != 1 {
		noun, verb = noun+"s", more
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", n, noun, verb))
}
