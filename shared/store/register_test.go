package store

import (
	"testing"
	"time"

	"dsvmpools/shared/job"
)

func TestAnIDIsGivenBackByWhoHoldsIt(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	take := func(claim string) (ID, bool) {
		t.Helper()
		now, fresh, err := s.RegisterAs(
			ctx,
			claim,
			[]ID{{ID: "x", Pool: "cpu", Order: order(1), Hash: "h", At: dawn.Add(time.Duration(len(claim)) * time.Second)}},
		)
		if err != nil {
			t.Fatal(err)
		}
		return now[0], fresh[0]
	}
	there := func() bool {
		_, err := s.ID(ctx, "x")
		return err == nil
	}
	give := func(claim string) {
		t.Helper()
		if err := s.Release(ctx, claim, "x"); err != nil {
			t.Fatal(err)
		}
	}
	take("a")
	if row, fresh := take("bb"); fresh || !row.ClaimedAt.Equal(dawn.Add(2*time.Second)) {
		t.Errorf("the second is fresh %v, %+v", fresh, row)
	}
	if give("a"); !there() {
		t.Error("the first gave back what the second holds")
	}
	if give("bb"); there() {
		t.Error("the holder could not give it back")
	}
	if _, fresh := take("ccc"); !fresh {
		t.Error("what was given back is not fresh")
	}
	give("bb")
	row, err := s.ID(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	// Given up: only as it was read.
	take("dddd")
	if now, err := s.RejectLost(ctx, row, "lost", dawn); err != nil || now.State != "" {
		t.Errorf("an id that was registered again was given up: %+v (%v)", now, err)
	}
	if row, err = s.ID(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if now, err := s.RejectLost(ctx, row, "lost", dawn); err != nil || now.State != job.Rejected || now.Reason != "lost" {
		t.Errorf("it is %+v (%v), want rejected", now, err)
	}
	if rejected, err := s.Rejected(ctx, 10); err != nil || len(rejected) != 1 {
		t.Errorf("the list of rejections has %v (%v)", rejected, err)
	}
	if _, fresh := take("eeeee"); !fresh {
		t.Error("its document is not welcome again")
	}
}
