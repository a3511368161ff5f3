package disk

import (
	"errors"
	"testing"
)

// A check that did not come to a verdict says nothing about the file: the file must not be
// called damaged.
func TestOnlyAReasonIsAVerdict(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		output  string
		err     error
		verdict bool
	}{
		"its own words":         {"damaged: page 7 is freed and in use\n", errors.New("exit status 1"), true},
		"a crash of the check":  {"fatal error: stack overflow\n\nruntime", errors.New("exit status 2"), true},
		"killed":                {"", errors.New("signal: killed"), false},
		"interrupted":           {"", errors.New("signal: interrupt"), false},
		"another program":       {"", nil, false},
		"it took too much time": {"", errors.New("it did not end in 1m0s"), false},
	} {
		if err := judgeCheck(tt.output, tt.err); err == nil || errors.Is(err, errUnchecked) == tt.verdict {
			t.Errorf("%s: got %v; a verdict about the file: want %v", name, err, tt.verdict)
		}
	}
}
