package main

import (
	"strings"
	"testing"

	"dsvmpools/local"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/job"
)

// While the function that takes jobs fails, their messages die. They are brought
// back, later each time: one does its work when the cause is mended in time, and
// one that never can is on `rejected` and says why.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	i := startInstance(
		t,
		map[string]string{"RECONCILE_SCHEDULE": "* * * * * *", "DSVM_REVIVE_AFTER": "100ms, 200ms"},
		func(cfg *local.Config) { cfg.Deliveries = 2 },
	)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	broken := chaos.Injection{Do: chaos.Disconnect, Target: "functions/invoke/SubmitJob"}
	if _, err := i.Chaos.Add(broken); err != nil {
		t.Fatal(err)
	}
	i.send("jobs", body(`{"id":"never","pool":"cpu","command":["true"]}`))
	r, err := i.bus.NewReceiverForQueue("rejected", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.ReceiveMessages(i.ctx, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	reason, _ := got[0].ApplicationProperties["reason"].(string)
	if !strings.Contains(string(got[0].Body), `"never"`) || !strings.Contains(reason, "could not be processed") ||
		!strings.Contains(reason, "send it again") {
		t.Errorf("got %s with %q", got[0].Body, reason)
	}
	if err := r.CompleteMessage(i.ctx, got[0], nil); err != nil {
		t.Fatal(err)
	}

	i.send("jobs", body(`{"id":"later","pool":"cpu","command":["true"]}`))
	i.until("the message's death", func() bool {
		_, scheduled, _, dead := i.Bus.Counts("jobs")
		return scheduled+dead > 0
	})
	i.Chaos.Remove("")
	if j := i.job("later"); j.State != job.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("got %s after %d attempts: %s", j.State, len(j.Attempts), j.Reason)
	}
	if active, scheduled, _, dead := i.Bus.Counts("jobs"); active+scheduled+dead > 0 {
		t.Errorf("%d messages are active, %d scheduled and %d dead", active, scheduled, dead)
	}
}
