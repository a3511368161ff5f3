package service

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// Wake is the body of a message on the queue `pool-events`, which only this app
// sends: it has a pool driven.
type Wake struct {
	V    int      `json:"v"`
	Pool string   `json:"pool"`
	Kind string   `json:"kind"`           // drive.WakeTick, ...
	Jobs []string `json:"jobs,omitempty"` // ids, of drive.WakeSubscribe and drive.WakeEnded
	By   string   `json:"by,omitempty"`   // of drive.WakeSubscribe: the pool to notify
}

const wakeVersion = 1

// WakePrices is the kind of a wake-up that asks for the prices of what a pool uses, and does
// not drive it. An earlier release takes it, and does nothing.
const WakePrices = "prices"

// ParseWake reads the body of a message on `pool-events`.
func ParseWake(body []byte) (Wake, error) {
	var w Wake
	if err := json.Unmarshal(body, &w); err != nil || w.V != wakeVersion || w.Pool == "" {
		return w, fault.New(fault.Invalid, "",
			"this queue belongs to the app itself and takes no other messages; send jobs to `jobs` and pools to `pools`")
	}
	return w, nil
}

// wake has a pool driven through its queue, so that the tick has an enqueued time.
func wake(ctx context.Context, b Bus, name, kind string, at time.Time) error {
	return sendWake(ctx, b, Wake{Pool: name, Kind: kind}, at)
}

func sendWake(ctx context.Context, b Bus, w Wake, at time.Time) error {
	w.V = wakeVersion
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return b.Send(ctx, b.Queues().PoolEvents, bus.Message{Body: body, ContentType: "application/json", At: at})
}

// jobsInWake bounds the ids in one message, which holds 256 KB.
const jobsInWake = 1000

// sendJobs sends a message about jobs, or several if there are many.
func sendJobs(ctx context.Context, b Bus, w Wake, ids []string) error {
	for part := range slices.Chunk(ids, jobsInWake) {
		w.Jobs = part
		if err := sendWake(ctx, b, w, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// Event is what the message says to its pool; nil: nothing, it only wakes the pool.
func (w *Wake) Event() pool.Event {
	switch w.Kind {
	case drive.WakeSubscribe:
		return pool.Subscribe{IDs: w.Jobs, By: w.By}
	case drive.WakeEnded:
		return pool.Ended{IDs: w.Jobs}
	}
	return nil
}
