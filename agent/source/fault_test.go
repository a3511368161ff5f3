//go:build unix

package source

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/job"
)

// TestCauseOf: what git says of the node is the node's fault, what the server says of
// itself is not.
func TestCauseOf(t *testing.T) {
	t.Parallel()
	for _, e := range []unix.Errno{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE} {
		if got := causeOf(e); got != job.CauseNoProcess {
			t.Errorf("%v: got %s", e, got)
		}
	}
	for words, want := range map[string]job.Cause{
		"fatal: write error: No space left on device":                                 job.CauseDisk,
		"remote: fatal: write error: No space left on device":                         job.CauseSource,
		"error: cannot fork() for git-remote-https: Resource temporarily unavailable": job.CauseNoProcess,
		"fatal: unable to access: Could not resolve host":                             job.CauseSource,
	} {
		if got := causeOf(fmt.Errorf("x: %w", &gitError{words})); got != want {
			t.Errorf("%q: got %s, want %s", words, got, want)
		}
	}
}
