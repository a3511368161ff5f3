package scheduler

import (
	"fmt"
	"strings"
	"time"
)

// nextStep is what a job or pool waits for that needs only time.
const nextStep = "the next step; nothing has to be done"

// stamp is a time as sentences have it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// countJobs, countWork and countNodes write a number with its noun and verb.
func countJobs(n int, one, more string) string { return countText(n, "job", one, more) }

// countWork counts what stands in the pool's line: jobs, or the sessions of people.
func (ex *explainer) countWork(n int, one, more string) string {
	if ex.Head.Spec.IsInteractive() {
		return countText(n, "session", one, more)
	}
	return countJobs(n, one, more)
}

func countNodes(n int, one, more string) string { return countText(n, "node", one, more) }

// countText writes a number with a noun and the verb of the singular or the plural.
func countText(n int, noun, one, more string) string {
	verb := one
	if n != 1 {
		noun, verb = noun+"s", more
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", n, noun, verb))
}
