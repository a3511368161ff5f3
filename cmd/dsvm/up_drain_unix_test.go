//go:build unix

package main

import "testing"

func TestSaysStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		w       work
		isKnown bool
		want    string
	}{
		{work{}, false, "stopping; what runs is ended"},
		{work{}, true, "stopping; nothing runs"},
		{work{sessions: 2}, true, "stopping ends 2 sessions that run"},
		{work{jobs: 1}, true, "stopping ends 1 job that runs; the job runs again after the next start, at no cost of a retry (`dsvm up --drain` lets jobs end first)"},
		{work{jobs: 2, sessions: 1}, true, "stopping ends 2 jobs that run and 1 session that runs; " +
			"the jobs run again after the next start, at no cost of a retry (`dsvm up --drain` lets jobs end first)"},
	} {
		if got := saysStop(c.w, c.isKnown); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
