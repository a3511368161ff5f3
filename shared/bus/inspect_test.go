package bus_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.Send(f.ctx, "jobs", bus.Message{Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	jobs, err := f.Inspect(f.ctx, "jobs")
	if err != nil || jobs.Sessions || jobs.Lock != time.Minute || jobs.MaxDeliveries != 10 || jobs.Active != 1 {
		t.Errorf("jobs: got %+v (%v), want a plain queue with a message and a lock of a minute", jobs, err)
	}
	if work, err := f.Inspect(f.ctx, "work"); err != nil || !work.Sessions {
		t.Errorf("work: got %+v (%v), want sessions", work, err)
	}
	if _, err := f.Inspect(f.ctx, "none"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no queue: got %v, want notFound", err)
	}
}

// A test of access leaves a queue as it was, and finds what is missing.
func TestAccess(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.Send(f.ctx, "jobs", bus.Message{Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	for queue, sessions := range map[string]bool{"jobs": false, "pool-events": false, "work": true} {
		for range 2 { // it holds nothing
			if err := f.TestAccess(f.ctx, queue, sessions); err != nil {
				t.Errorf("%s: %v", queue, err)
			}
		}
	}
	r, err := f.client.NewReceiverForQueue("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.receive(t, r, 1); len(got) != 1 || got[0].DeliveryCount != 1 {
		t.Errorf("the message was delivered before")
	}
	if err := f.TestAccess(f.ctx, "none", false); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no queue: got %v, want notFound", err)
	}
	session, err := f.client.AcceptSessionForQueue(f.ctx, "work", "cpu.0", &azservicebus.SessionReceiverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(f.ctx)
	if err := f.TestAccess(f.ctx, "work", true); err != nil {
		t.Errorf("while a node holds its session: %v", err)
	}
}
