package servicebus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// The figures are of the server and of the SDK's clients together: all run in
// this process. What is acknowledged is on disk, so the disk's own rate stands
// beside them.

// syncRate measures how often per second the disk below the test takes one page
// for good.
func syncRate(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	must(b, err)
	defer f.Close()
	page := make([]byte, 4096)
	const pages = 64 // written over and over, as a store does
	for range pages {
		_, err = f.Write(page)
		must(b, err)
	}
	must(b, f.Sync())
	n, begin := 0, time.Now()
	for ; time.Since(begin) < 200*time.Millisecond; n++ {
		_, err = f.WriteAt(page, int64(n%pages*len(page)))
		must(b, err)
		must(b, f.Sync())
	}
	return float64(n) / time.Since(begin).Seconds()
}

// report prints messages per second and the disk's rate.
func report(b *testing.B, messages int) {
	b.StopTimer()
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(syncRate(b), "disk-syncs/s")
}

var kilobyte = []byte(strings.Repeat("x", 1000))

func batchOf(b *testing.B, f fixture, s *azservicebus.Sender, n int) *azservicebus.MessageBatch {
	b.Helper()
	batch, err := s.NewMessageBatch(f.ctx, nil)
	must(b, err)
	for range n {
		must(b, batch.AddMessage(&azservicebus.Message{Body: kilobyte}, nil))
	}
	return batch
}

// One sender, batches of 100 messages of 1 KB, each batch acknowledged before
// the next is made.
func BenchmarkSendBatch100(b *testing.B) {
	f := setup(b)
	s := f.sender(b, "plain")
	b.ResetTimer()
	for range b.N {
		must(b, s.SendMessageBatch(f.ctx, batchOf(b, f, s, 100), nil))
	}
	report(b, 100*b.N)
}

// Eight receivers on one connection take up to 100 messages of 1 KB at a time;
// each completes what it took by several goroutines, and takes again when all of
// it is acknowledged. All messages are there before the clock starts.
func BenchmarkReceiveComplete8(b *testing.B) {
	for _, by := range []struct {
		name       string
		goroutines int
	}{{"by1", 1}, {"by10", 10}, {"by100", 100}} {
		b.Run(by.name, func(b *testing.B) { receiveComplete(b, 8, by.goroutines) })
	}
}

func receiveComplete(b *testing.B, receivers, goroutines int) {
	f := setup(b)
	s := f.sender(b, "plain")
	for left := b.N; left > 0; left -= 100 {
		must(b, s.SendMessageBatch(f.ctx, batchOf(b, f, s, min(left, 100)), nil))
	}
	all, done := context.WithCancel(f.ctx)
	defer done()
	var completed atomic.Int64
	b.ResetTimer()
	var wg sync.WaitGroup
	for range receivers {
		r := f.receiver(b, "plain", nil)
		wg.Go(func() {
			for {
				ms, err := r.ReceiveMessages(all, 100, nil)
				if err != nil {
					return
				}
				work := make(chan *azservicebus.ReceivedMessage, len(ms))
				for _, m := range ms {
					work <- m
				}
				close(work)
				var completers sync.WaitGroup
				for range min(goroutines, len(ms)) {
					completers.Go(func() {
						for m := range work {
							if err := r.CompleteMessage(f.ctx, m, nil); err != nil {
								b.Error(err)
							}
							if completed.Add(1) == int64(b.N) {
								b.StopTimer()
								done()
							}
						}
					})
				}
				completers.Wait()
			}
		})
	}
	wg.Wait()
	report(b, b.N)
	f.none(b, "plain")
}

// One message at a time: sent and acknowledged, received, completed and
// acknowledged.
func BenchmarkSendToReceive(b *testing.B) {
	f := setup(b)
	s := f.sender(b, "plain")
	r := f.receiver(b, "plain", nil)
	b.ResetTimer()
	for range b.N {
		must(b, s.SendMessage(f.ctx, message("x"), nil))
		must(b, r.CompleteMessage(f.ctx, f.one(b, r), nil))
	}
	report(b, b.N)
}
