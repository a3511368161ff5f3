package service_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

// stuck is a bus on which removing a message fails.
type stuck struct {
	service.Bus
	err error
}

func (s *stuck) Remove(ctx context.Context, queue string, sequence int64) error {
	if s.err != nil {
		return s.err
	}
	return s.Bus.Remove(ctx, queue, sequence)
}

// Whatever ends a resubmission between the job and the message, the message is there and
// the job is one.
func TestResubmitIsCutOff(t *testing.T) {
	t.Parallel()
	b := &stuck{}
	app := apptest.New(t, func(c *service.Config) { b.Bus = c.Bus; c.Bus = b })
	if err := app.Apply(t.Context(), apptest.PoolDocument); err != nil {
		t.Fatal(err)
	}
	m := bus.Message{ID: "one", Body: []byte(`{"pool":"cpu","command":["true"]}`)}
	if err := app.Rejections.Reject(t.Context(), "jobs", m, service.RefusedJob{ID: "one"}, fault.New(fault.Internal, "", "it died")); err != nil {
		t.Fatal(err)
	}
	all, _, err := app.Rejected.List(t.Context(), wire.RejectedFilter{}, 10, "")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d are listed, %v", len(all), err)
	}
	for _, c := range []struct {
		cause error
		says  string
	}{
		{errors.New("the process is killed"), "the process is killed"},
		{&fault.Error{Code: fault.Throttled, Message: "held"}, "is done, but another receiver holds the message"},
	} {
		b.err = c.cause
		_, err := app.Rejected.Resubmit(t.Context(), all[0].Key, nil, "")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %q", err, c.says)
		}
		if _, err := app.Rejected.Show(t.Context(), all[0].Key); err != nil {
			t.Errorf("the message is gone: %v", err)
		}
	}
	b.err = nil
	out, err := app.Rejected.Resubmit(t.Context(), all[0].Key, nil, "")
	if err != nil || out.Job != "one" || out.Pool != "cpu" {
		t.Errorf("once more: %+v, %v", out, err)
	}
	if j, err := app.Jobs.Job(t.Context(), "one"); err != nil || j.Spec.Pool != "cpu" {
		t.Errorf("the job is %+v, %v", j, err)
	}
	if pools, err := app.Pools.Pools(t.Context(), "cpu"); err != nil || len(pools) != 1 || pools[0].Queued != 1 {
		t.Errorf("the pool is %+v, %v, want one job in it", pools, err)
	}
	if left := app.Bus.Take("rejected"); len(left) != 0 {
		t.Errorf("%d messages are left", len(left))
	}
}
