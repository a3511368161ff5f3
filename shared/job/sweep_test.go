package job_test

import (
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

// A sweep that says how many of its members may fail is another job than one that
// does not, and one that does not has the hash that it always had.
func TestMaxFails(t *testing.T) {
	t.Parallel()
	parse := func(sweep string) job.Spec {
		s, err := job.Parse([]byte(`{"pool":"cpu","command":["true"],"sweep":`+sweep+`}`), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain, three := parse(`{"count":5}`), parse(`{"count":5,"maxFails":3}`)
	if three.Sweep.MaxFails != 3 || plain.Sweep.MaxFails != 0 || three.Hash() == plain.Hash() {
		t.Errorf("got %+v and %+v", plain.Sweep, three.Sweep)
	}
	if strings.Contains(string(plain.Canonical()), "maxFails") {
		t.Errorf("a sweep without it is written as %s", plain.Canonical())
	}
	if m := three.Member(1); m.Sweep != nil {
		t.Errorf("a member has %+v", m.Sweep)
	}
}
