//go:build unix

package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus"
)

// What holds here for a message holds in the cloud: the queues of the expanded
// template are those that Start makes.
func TestQueuesAreThoseOfTheTemplate(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../infra/snapshot/new.snapshot.json")
	if err != nil {
		t.Fatal(err)
	}
	var snapshot struct {
		PredictedResources []struct {
			Type, Name string
			Properties json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &snapshot); err != nil {
		t.Fatal(err)
	}
	type settings struct {
		LockDuration, DefaultMessageTimeToLive            string
		MaxDeliveryCount                                  int
		RequiresSession, DeadLetteringOnMessageExpiration bool
	}
	template := map[string]settings{}
	for _, r := range snapshot.PredictedResources {
		if r.Type != "Microsoft.ServiceBus/namespaces/queues" {
			continue
		}
		var q settings
		if err := json.Unmarshal(r.Properties, &q); err != nil {
			t.Fatal(err)
		}
		template[path.Base(r.Name)] = q
	}
	here := map[string]servicebus.QueueConfig{}
	for _, q := range queues(Config{}, bus.DefaultQueues) {
		here[q.Name] = q
	}
	if len(template) != len(here) {
		t.Errorf("the template has %d queues, an instance has %d", len(template), len(here))
	}
	for name, got := range here {
		want := settings{
			LockDuration:                     iso(got.LockDuration),
			DefaultMessageTimeToLive:         iso(got.DefaultTTL),
			MaxDeliveryCount:                 got.MaxDeliveryCount,
			RequiresSession:                  got.RequiresSession,
			DeadLetteringOnMessageExpiration: got.DeadLetterExpired,
		}
		if template[name] != want {
			t.Errorf("queue %s: the template says %+v, an instance %+v", name, template[name], want)
		}
	}
}

// TestQueuesAreTaken: the local Service Bus takes the queues, with their times.
func TestQueuesAreTaken(t *testing.T) {
	t.Parallel()
	server, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"),
		Queues: queues(Config{}, bus.DefaultQueues)})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}

// iso writes whole days or minutes as the template does.
func iso(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("P%dD", d/day)
	}
	return fmt.Sprintf("PT%dM", d/time.Minute)
}
