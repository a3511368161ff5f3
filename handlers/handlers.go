// Package handlers holds the triggers of the app: what wakes on a message, a timer or
// a request, one small file each. A trigger decodes what came, calls a use case of
// shared/service, and answers. No rule about jobs or pools lives here. The HTTP API is
// handlers/httpapi.
package handlers

import (
	"log/slog"
	"net/http"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/service"
)

// Functions are the triggers and what they stand on.
type Functions struct {
	service      *service.Service
	bus          service.Bus
	intake       Intake
	doctor       httpapi.Doctor
	access       httpapi.Access
	unknownAgain time.Duration // before an unknown pool is looked up a second time
	log          *slog.Logger
	now          func() time.Time
}

// Config is what the triggers stand on.
type Config struct {
	Service      *service.Service
	Bus          service.Bus
	Intake       Intake // nil = messages do not wait
	Doctor       httpapi.Doctor
	Access       httpapi.Access // who may do what
	UnknownAgain time.Duration  // see DSVM_UNKNOWN_POOL_AGAIN
	Log          *slog.Logger
	Now          func() time.Time // UTC; nil = the clock
}

// New returns the triggers over the use cases.
func New(c Config) *Functions {
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Functions{service: c.Service, bus: c.Bus, intake: c.Intake, doctor: c.Doctor, access: c.Access, unknownAgain: c.UnknownAgain,
		log: c.Log, now: c.Now}
}

// Register makes the functions known to the custom-handler layer, under the
// names of their folders in functions/. What anybody may send comes as text, what
// this app itself and its agents send as bytes.
func (f *Functions) Register(app *invoke.App) {
	queues := f.bus.Queues()
	app.TextBatch("SubmitJob", f.take(queues.Jobs, f.SubmitJob))
	app.TextBatch("ApplyPool", f.take(queues.Pools, f.ApplyPool))
	app.Batch("NodeReport", f.take(queues.NodeEvents, f.NodeReport))
	app.Batch("DrivePool", f.take(queues.PoolEvents, f.DrivePool))
	app.Timer("Reconcile", f.Reconcile)
	app.Timer("NightlyScaleDown", f.NightlyScaleDown)
	app.Timer("RecordUsage", f.RecordUsage)
	app.Timer("CommitStatus", f.CommitStatus)
	app.Timer("WatchBudgets", f.WatchBudgets)
	app.Timer("RefreshPrices", f.RefreshPrices)
}

// API is the HTTP API over the same use cases. share is the path at which the share
// with the jobs' logs is mounted.
func (f *Functions) API(share string) http.Handler {
	use := httpapi.Services{
		Jobs:   f.service.Jobs,
		Pools:  f.service.Pools,
		Nodes:  f.service.Nodes,
		Usage:  f.service.Ledger,
		Pushes: f.service.Pushes,
		Doctor: f.doctor,
		Trees:  f.service.Trees,

		Rejected: f.service.Rejected,
		Sessions: f.service.Sessions,
		Overview: f.service.Overview,
		Budgets:  f.service.Budgets,

		Access: f.access,
		Users:  f.service.Users,
		Audit:  f.service.Audit,
	}
	if f.service.Prices != nil { // a nil *Prices would be one that is there
		use.Prices = f.service.Prices
	}
	return httpapi.New(use, share, f.log)
}

// busMessage is a message of a trigger as the bus sends it.
func busMessage(m invoke.Message) bus.Message {
	return bus.Message{
		ID:          m.ID,
		Body:        m.Body,
		ContentType: m.ContentType,
		Labels: bus.Labels{
			CorrelationID:    m.CorrelationID,
			Subject:          m.Subject,
			To:               m.To,
			ReplyTo:          m.ReplyTo,
			ReplyToSessionID: m.ReplyToSessionID,
			SessionID:        m.SessionID,
		},
		Properties: m.Properties,
	}
}
