package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func add(t *testing.T, s *Set, r Injection) string {
	t.Helper()
	id, err := s.Add(r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTargets(t *testing.T) {
	t.Parallel()
	call := Call{Server: "compute", Operation: "list", Entity: "Pool-cpu/7f3a"}
	for target, want := range map[string]bool{
		"compute": true, "compute/list": true, "compute//pool-cpu": true, "compute/l*/pool-*": true, "compute/list/pool-cpu/7*": true,
		"tables": false, "compute/get": false, "compute/list/cpu": false, "compute/list/pool-cpu/8*": false,
	} {
		s := New(1)
		add(t, s, Injection{Do: Refuse, Target: target})
		if got := s.Decide(call, Refuse).Do == Refuse; got != want {
			t.Errorf("%s: got %v, want %v", target, got, want)
		}
	}
}

func TestAfterAndCount(t *testing.T) {
	t.Parallel()
	s := New(1)
	add(t, s, Injection{Do: Detach, Target: "servicebus/send", After: 2, Count: 3})
	var hits []int
	for i := range 10 {
		if s.Decide(Call{Server: "servicebus", Operation: "send", Entity: "jobs"}, Detach, Refuse).Do == Detach {
			hits = append(hits, i)
		}
	}
	if want := []int{2, 3, 4}; !slices.Equal(hits, want) {
		t.Errorf("hits: got %v, want %v", hits, want)
	}
}

func TestOnlyActionsOfTheCaller(t *testing.T) {
	t.Parallel()
	s := New(1)
	add(t, s, Injection{Do: Detach, Target: "servicebus", Count: 1})
	if got := s.Decide(Call{Server: "servicebus", Operation: "connect"}, Disconnect).Do; got != None {
		t.Errorf("got %q, want none", got)
	}
	if got := s.Decide(Call{Server: "servicebus", Operation: "send"}, Detach).Do; got != Detach {
		t.Errorf("got %q, want detach: a call that could not detach counted as a hit", got)
	}
}

func TestSameSeedSameFaults(t *testing.T) {
	t.Parallel()
	run := func(s *Set) (out string) {
		for range 200 {
			out += string(s.Decide(Call{Server: "tables", Operation: "insert"}, Throttle, Lose).Do) + " "
		}
		return out
	}
	build := func(seed uint64) *Set {
		s := New(seed)
		add(t, s, Injection{Do: Throttle, Target: "tables", Probability: 0.2})
		add(t, s, Injection{Do: Lose, Target: "tables", Probability: 0.2})
		return s
	}
	s := build(7)
	first := run(s)
	if n := strings.Count(first, "throttle"); n < 20 || n > 60 {
		t.Errorf("throttled %d of 200 with probability 0.2", n)
	}
	if got := run(build(7)); got != first {
		t.Error("the same seed gave other faults")
	}
	if got := run(build(8)); got == first {
		t.Error("another seed gave the same faults")
	}
	s.Seed(7)
	if got := run(s); got != first {
		t.Error("seeding again did not restart the random numbers")
	}
}

func TestRemoveAndList(t *testing.T) {
	t.Parallel()
	s := New(3)
	a := add(t, s, Injection{Do: Refuse, Target: "tables"})
	b := add(t, s, Injection{Do: Delay, Delay: time.Second, Target: "compute"})
	s.Decide(Call{Server: "tables"}, Refuse)
	if got := s.Remove(a); got != 1 {
		t.Errorf("removed %d, want 1", got)
	}
	list, seed := s.List()
	if len(list) != 1 || list[0].ID != b || seed != 3 {
		t.Errorf("got %+v and seed %d", list, seed)
	}
	if got := s.Remove(""); got != 1 {
		t.Errorf("removed %d, want 1", got)
	}
	if got := s.Decide(Call{Server: "compute"}, Delay); got.Do != None {
		t.Errorf("got %+v after all injections were removed", got)
	}
	var none *Set
	if got := none.Decide(Call{}, Refuse); got.Do != None {
		t.Errorf("a nil set: got %+v", got)
	}
}

func TestInvalidInjections(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Injection{
		"no fault is called":     {Do: "explode", Target: "tables"},
		"between 0 and 1":        {Do: Refuse, Target: "tables", Probability: 2},
		"cannot be below 0":      {Do: Refuse, Target: "tables", Count: -1},
		"needs a delay":          {Do: Lag, Target: "compute/list"},
		"begins with no server":  {Do: Refuse, Target: "storage"},
		"pattern that cannot be": {Do: Refuse, Target: "tables/[a"},
	} {
		if _, err := New(1).Add(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
