package agent

import (
	"testing"

	"dsvmpools/agent/keeper"
	"dsvmpools/shared/protocol"
)

// Programs of people that cannot be ended keep the slot of their job from being used again, however
// many they are and although nothing of the job itself is left, until they have gone.
func TestGuestsThatCannotBeEndedKeepTheSlot(t *testing.T) {
	t.Parallel()
	kept, err := keeper.Start("guests", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	all := &guests{key: "no attempt has this key", ended: make(chan struct{}), all: map[*guest]bool{}}
	asked := 0
	for range 2 {
		all.all[&guest{end: func() { asked++ }, gone: make(chan struct{})}] = true
	}
	k := &slot{hold: hold{keeper: kept}, bare: true, cpus: 1}
	r := &run{slot: k, guests: all, key: all.key}
	r.endGuests(1)
	if k.bare || asked != 2 {
		t.Fatalf("the slot is bare: %t, after %d of two guests were asked to end", k.bare, asked)
	}
	s := &slots{launcher: &launcher{cfg: Config{CPUs: 1}}, site: &site{ended: true}, taken: map[int64]*slot{1: k}}
	s.release(1)
	want := protocol.Assignment{CPUs: 1}
	if err := s.checkRoom(want); err == nil || len(s.free) != 0 {
		t.Errorf("the place of guests that are there is given away: %v", err)
	}
	for g := range all.all {
		all.forget(g, true)
	}
	if err := s.checkRoom(want); err != nil || len(s.free) != 1 {
		t.Errorf("after they have gone, %d slots are free: %v", len(s.free), err)
	}
}
