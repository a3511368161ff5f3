package service

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// Audit keeps the trail of who has changed what.
type Audit struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time
}

const (
	// endTime bounds the note of how a request ended.
	endTime = 5 * time.Second
	// auditLooks bounds the requests that one call looks at for those that are asked for.
	auditLooks = 5000
	// auditDays is how far back the trail is read where nothing is said.
	auditDays = 30
)

// Begin notes a request before it is carried out, and returns what notes its end. An error
// means that the trail cannot be written, so that nothing may be changed. Where the end
// cannot be written, the log has it.
func (a *Audit) Begin(
	ctx context.Context, c caller.Caller, method, target string,
) (func(ctx context.Context, status int, made string), error) {
	row := store.AuditRow{At: a.now(), ID: c.ID, Login: c.Login, User: c.Name, From: c.From, Method: method, Target: target}
	key, err := a.store.AddAudit(ctx, row)
	if err != nil {
		a.log.ErrorContext(ctx, "audit trail cannot be written", "method", method, "target", target, "person", c.ID, "error", err)
		return nil, &fault.Error{Code: fault.Throttled, RetryAfter: time.Second, Err: err,
			Message: "nothing was changed, since the audit trail cannot be written now; try again"}
	}
	return func(ctx context.Context, status int, made string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if err := a.store.EndAudit(ctx, key, status, made); err != nil {
			a.log.ErrorContext(ctx, "end of a request is not in the audit trail", "method", method, "target", target, "person", c.ID,
				"status", status, "made", made, "error", err)
		}
	}, nil
}

// List lists requests, the newest first. A page may have fewer than the limit, and not be
// the last.
func (a *Audit) List(ctx context.Context, q wire.AuditQuery) (wire.List[wire.AuditEntry], error) {
	var after store.AuditKey
	if q.Continue != "" {
		var ok bool
		if after, ok = store.ParseAuditKey(q.Continue); !ok {
			return wire.List[wire.AuditEntry]{}, fault.New(fault.Invalid, "continue",
				"continue is not of a list of the audit trail; begin again without it")
		}
	}
	if q.Until.IsZero() {
		q.Until = a.now().Add(time.Minute)
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-auditDays * 24 * time.Hour)
	}
	var items []wire.AuditEntry
	next, looked := "", 0
	err := a.store.AuditTrail(ctx, q.Since, q.Until, after, func(r store.AuditRow, key store.AuditKey) bool {
		if looked++; matchesAudit(&r, q) {
			items = append(items, auditEntry(&r))
		}
		if len(items) == q.Limit || looked == auditLooks {
			next = key.String()
			return false
		}
		return true
	})
	return wire.NewList(items, next), err
}

// matchesAudit reports whether a request is asked for.
func matchesAudit(r *store.AuditRow, q wire.AuditQuery) bool {
	isOf := q.User == "" || q.User == wire.KeyUser && r.ID == "" ||
		r.ID != "" && (q.User == r.User || strings.EqualFold(q.User, r.Login) || strings.EqualFold(q.User, r.ID))
	return isOf && strings.Contains(r.Target, q.Target)
}

func auditEntry(r *store.AuditRow) wire.AuditEntry {
	e := wire.AuditEntry{At: r.At.UTC(), Kind: "program", ID: r.ID, Login: r.Login, User: r.User, From: r.From, Method: r.Method,
		Target: r.Target, Made: r.Made, Status: r.Status}
	if r.ID != "" {
		e.Kind = "person"
	}
	return e
}
