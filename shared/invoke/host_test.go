package invoke

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// Azure's limits of a message in the Standard tier: its body, and its properties.
const (
	largestMessage    = 256 << 10
	largestProperties = 64 << 10
)

// queueLock is the longest lock that Azure gives a message, and that of the queues in the
// template. A trigger for batches does not renew it.
const queueLock = 5 * time.Minute

// What host.json allows fits into what the handler keeps and does: a batch that can never
// be read would come back until all its messages are dead.
func TestHostFileFits(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../host.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		FunctionTimeout string
		Extensions      struct {
			ServiceBus struct{ MaxMessageBatchSize int64 }
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	clock, err := time.Parse(time.TimeOnly, file.FunctionTimeout)
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute + time.Duration(clock.Second())*time.Second
	batch := file.Extensions.ServiceBus.MaxMessageBatchSize
	if batch < 1 || batch > 100 {
		t.Errorf("batches of %d messages, want 1 to 100", batch)
	}
	if batch*largestMessage > maxBodies {
		t.Errorf("the bodies of a batch may have %d bytes, and the handler keeps %d", batch*largestMessage, maxBodies)
	}
	if batch*largestProperties*2 > maxMetadata { // the host sends them in two lists
		t.Errorf("the properties of a batch may have %d bytes, and the handler keeps %d", batch*largestProperties*2, maxMetadata)
	}
	if seven := batch * largestMessage * 7; seven > defaultMaxPayload {
		t.Errorf("a batch of texts that are quoted twice may have %d bytes, and the handler reads %d", seven, defaultMaxPayload)
	}
	if defaultDeadline >= timeout || timeout > queueLock {
		t.Errorf("an invocation ends after %s, the host kills the process after %s, and the lock lasts %s; want them in this order",
			defaultDeadline, timeout, queueLock)
	}
}
