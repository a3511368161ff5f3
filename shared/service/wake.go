package service

import (
	"context"
	"encoding/json"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
)

// Wake is the body of a message on the queue `pool-events`, which only this app
// sends: it has a pool driven.
type Wake struct {
	V    int    `json:"v"`
	Pool string `json:"pool"`
	Kind string `json:"kind"` // drive.WakeTick, drive.WakeRecord
}

const wakeVersion = 1

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
	body, err := json.Marshal(Wake{V: wakeVersion, Pool: name, Kind: kind})
	if err != nil {
		return err
	}
	return b.Send(ctx, b.Queues().PoolEvents, bus.Message{Body: body, ContentType: "application/json", At: at})
}
