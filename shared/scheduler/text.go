package scheduler

import (
	"fmt"
	"strings"
	"time"
)

// nextStep is what something waits for that needs nothing else.
const nextStep = "the next step; nothing has to be done"

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// jobs and nodes write a number with its noun and verb.
func jobs(n int, one, more string) string  { return counted(n, "job", one, more) }
func nodes(n int, one, more string) string { return counted(n, "node", one, more) }

func counted(n int, noun, one, more string) string {
	verb := one
	if n != 1 {
		noun, verb = noun+"s", more
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", n, noun, verb))
}
