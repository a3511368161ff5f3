package store

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// Commit writes one step of a pool in one transaction: the head, on condition
// that v is still the current version, and the changes. The caller has raised
// head.Seq and given head.Nonce a value that nobody else uses. With the zero
// Version the pool is created.
//
// It returns the new version. Conflict: v is no longer current; load again and do
// the step again. (Perhaps the step was written, its reply was lost, and somebody has
// committed after it; to do a step again is harmless.) After any other
// error than Conflict and Invalid the outcome is unknown, because the service
// could not be asked; the next Commit on v finds out. A refusal because of size is
// Invalid with table.ErrTooLarge as its cause.
func (p *Pools) Commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (pool.Version, error) {
	return p.commit(ctx, name, v, head, changes, true)
}

// commitUnlogged is Commit without a row in the change log, for the deletion of a
// pool: its log goes too.
func (p *Pools) commitUnlogged(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (
	pool.Version, error,
) {
	return p.commit(ctx, name, v, head, changes, false)
}

func (p *Pools) commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change, logged bool) (
	pool.Version, error,
) {
	t, err := p.prepare(ctx, name, v, head, changes, logged)
	if err != nil {
		return pool.Version{}, err
	}
	version, err := p.write(ctx, t)
	if err == nil {
		t.written()
	}
	return version, err
}

// seenBytes bounds a transaction to which rows of the index are added: they have some kilobytes.
const seenBytes = 2 << 20

// noteSeen puts the rows of the index that are missing for jobs that t ends into t, or, if it has
// no room for them and the row of the change log, writes them before.
func (p *Pools) noteSeen(ctx context.Context, t *transaction, changes []pool.Change) error {
	rows, written := p.seen.rowsFor(t.pool, t.to.Index, changes, time.Now())
	t.written = written
	size := 0
	for i := range t.operations {
		size += len(t.operations[i].Row)
	}
	if len(t.operations)+len(rows) < table.MaxRows && size < seenBytes {
		t.operations = append(t.operations, rows...)
		return nil
	}
	for _, batch := range table.Batches(rows) {
		if err := p.table.Transact(ctx, "note where finished jobs of pool "+t.pool+" are", batch); err != nil {
			return err
		}
	}
	return nil
}

// transaction is one step of a pool, ready to be written.
type transaction struct {
	pool       string
	from, to   pool.Version
	operations []table.Operation // the head first
	written    func()            // remembers which rows of the index are written
}

// prepare checks a step and encodes its rows.
func (p *Pools) prepare(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change, logged bool) (
	*transaction, error,
) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	if head.Nonce == "" || head.Nonce == v.Nonce || head.Seq <= v.Seq {
		return nil, fault.New(fault.Internal, "", "a transaction on pool %s needs a raised Seq and a Nonce of its own", name)
	}
	v, err := p.withETag(ctx, name, v)
	if err != nil {
		return nil, err
	}
	spec, err := table.Compact(&head.Spec)
	if err != nil {
		return nil, err
	}
	t := &transaction{pool: name, from: v, to: pool.Version{Seq: head.Seq, Nonce: head.Nonce, SpecHash: fingerprint(spec), Index: v.Index}}
	if t.to.Index == "" {
		t.to.Index = newIndex(v, time.Now())
	}
	t.operations = make([]table.Operation, 1, 2+len(changes)) // the head comes last
	carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), v.Carried)
	if err != nil {
		return nil, err
	}
	if err := t.addChanges(changes, carries); err != nil {
		return nil, err
	}
	if err := p.noteSeen(ctx, t, changes); err != nil {
		return nil, err
	}
	keys := loggedKeys(changes)
	if room := table.MaxRows - 1 - len(t.operations); head.Queued+head.Running == 0 && carries.mayRest(keys, room) {
		merges, returned := carries.returnUses(name)
		t.operations = append(t.operations, merges...)
		keys = append(keys, returned...)
	}
	if logged {
		if err := t.addEdit(logRow{Seq: head.Seq, Nonce: head.Nonce, Prev: v.Nonce, Keys: keys}, carries); err != nil {
			return nil, err
		}
	}
	if t.to.Carried, err = carries.text(head.Bundled); err != nil {
		return nil, err
	}
	t.operations[0], err = headOperation(name, v, t.to, &head, carries.needsFormat(), spec)
	return t, err
}

// addChanges adds the operations of changes, but for what the head carries.
func (t *transaction) addChanges(changes []pool.Change, carries *carried) error {
	bundles := map[*pool.Bundle]bool{}
	for i := range changes {
		c := &changes[i]
		if b := c.Bundle; b != nil && !bundles[b] {
			bundles[b] = true
			operation, err := bundleOperation(t.pool, b)
			if err != nil {
				return err
			}
			t.operations = append(t.operations, operation)
		}
		if isInBundle(c) {
			continue
		}
		isCarried, err := t.carry(c, carries)
		if err != nil {
			return err
		}
		if isCarried {
			continue
		}
		operation, err := changeOperation(t.pool, c)
		if err != nil {
			return err
		}
		t.operations = append(t.operations, operation)
	}
	return nil
}

// carry has the head carry a change, and reports false if that needs an operation of its own.
func (t *transaction) carry(c *pool.Change, carries *carried) (bool, error) {
	switch value := c.Value.(type) {
	case nil:
		return carries.dropKey(c.Key), nil
	case *pool.Node:
		if c.OnlyUse {
			return carries.addUse(value.Use()), nil
		}
		carries.dropUse(value.VMID)
	case *pool.Log:
		page, added, err := carries.addLog(t.pool, value)
		if page != nil {
			t.operations = append(t.operations, *page)
		}
		return added, err
	}
	return false, nil
}

// addEdit adds a row of the change log. A full transaction goes without it: readers of older
// versions load the whole pool then.
func (t *transaction) addEdit(row logRow, carries *carried) error {
	room := table.MaxRows - len(t.operations)
	page, added, err := carries.addEdit(t.pool, row, room)
	if err != nil {
		return err
	}
	if page != nil {
		t.operations = append(t.operations, *page)
	}
	if !added && room > 0 {
		t.operations = append(t.operations, table.Operation{Kind: table.Put, Row: encodeLogRow(t.pool, row)})
	}
	return nil
}

// withETag reads the ETag of a version that has none: an empty ETag would be no condition.
func (p *Pools) withETag(ctx context.Context, name string, v pool.Version) (pool.Version, error) {
	if v.IsZero() || v.ETag != "" {
		return v, nil
	}
	_, current, err := p.readHead(ctx, name)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return pool.Version{}, err
	}
	if !current.Same(v) {
		return pool.Version{}, errChanged(name, err)
	}
	return current, nil
}

// headOperation writes the head over one version of it, v, as the version to.
func headOperation(name string, v, to pool.Version, head *pool.Head, carries bool, spec string) (table.Operation, error) {
	operation := table.Operation{Kind: table.Replace, Match: table.ETag(v.ETag)}
	switch {
	case v.IsZero():
		operation = table.Operation{Kind: table.Insert}
	case v.SpecHash == to.SpecHash:
		// The spec is by far the longest part of the head and hardly ever
		// changes: a merge leaves it where it is.
		operation.Kind, spec = table.Merge, ""
	}
	row, err := encodeHead(name, head, headRow{to, carries, v.Carried != "", spec})
	operation.Row = row
	return operation, err
}

// changeOperation writes or deletes one row.
func changeOperation(name string, c *pool.Change) (operation table.Operation, err error) {
	operation.Kind = table.Put
	if c.Insert {
		operation.Kind = table.Insert
	}
	switch value := c.Value.(type) {
	case nil:
		operation = table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, c.Key), Match: table.Any}
	case *pool.Node:
		operation.Row = encodeNode(name, c.Key, value)
	case *pool.Job:
		operation.Row, err = encodeJob(name, c.Key, value)
	case *pool.Log:
		operation.Row, err = encodeLog(name, c.Key, value)
	default:
		err = fault.New(fault.Internal, "", "a row cannot hold %T", value)
	}
	return operation, err
}

// write sends a transaction until it is known whether it was written.
func (p *Pools) write(ctx context.Context, t *transaction) (pool.Version, error) {
	for try := 1; ; try++ {
		etag, err := p.submit(ctx, t)
		if err == nil && etag != "" {
			t.to.ETag = string(etag)
			return t.to, nil
		}
		var refused *table.Refusal
		if errors.As(err, &refused) {
			if t.leaveOutMissingLog(refused) {
				try--
				continue
			}
			if !refused.LostRace() {
				return pool.Version{}, table.Fault(t.what(), err)
			}
		}
		if code := fault.CodeOf(err); code == fault.Invalid || code == fault.Throttled {
			return pool.Version{}, err
		}
		if !table.IsBusy(err) { // a busy service has not even begun, and a look at the head would be one request more
			known, version, outcome := p.findOutcome(ctx, t, err)
			if known {
				return version, outcome
			}
		}
		// Not written, as far as can be seen. If it arrives later, the condition
		// lets only one of the two tries through.
		if !table.WaitForRetry(ctx, try, err) {
			return pool.Version{}, table.Fault(t.what(), err)
		}
	}
}

func (t *transaction) what() string { return "commit to pool " + t.pool }

// noVersion is an ETag that no row has.
const noVersion = `W/"datetime'1601-01-01T00%3A00%3A00Z'"`

// findOutcome reads the head after a try that failed with cause, or whose reply had no
// ETag. If the head has the nonce of t, t was written. known is false if t may be tried
// again.
func (p *Pools) findOutcome(ctx context.Context, t *transaction, cause error) (known bool, version pool.Version, err error) {
	_, current, err := p.readHead(ctx, t.pool)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return true, pool.Version{}, wrap(
			fault.CodeOf(err), errors.Join(err, cause), "%s: it is not known whether it was written", t.what(),
		)
	}
	var refused *table.Refusal
	switch {
	case current.Same(t.to):
		t.to.ETag = current.ETag
		return true, t.to, nil
	case cause == nil:
		// It was written, and somebody has committed after it: the next Commit on
		// this version must fail.
		t.to.ETag = noVersion
		return true, t.to, nil
	case errors.As(cause, &refused) || !current.Same(t.from):
		return true, pool.Version{}, errChanged(t.pool, cause)
	}
	return false, pool.Version{}, nil
}

func errChanged(name string, cause error) error {
	return wrap(fault.Conflict, cause, "pool %s was changed by somebody else; load it again", name)
}

// leaveOutMissingLog removes the deletion of a row of facts from t if the service refused
// it because the row is gone: another process has recorded it too.
func (t *transaction) leaveOutMissingLog(r *table.Refusal) bool {
	if r.Index < 0 || r.Index >= len(t.operations) || r.Status != http.StatusNotFound || t.operations[r.Index].Kind != table.Delete {
		return false
	}
	var row struct{ RowKey string }
	if json.Unmarshal(t.operations[r.Index].Row, &row) != nil || !strings.HasPrefix(row.RowKey, pool.LogPrefix) {
		return false
	}
	t.operations = slices.Delete(t.operations, r.Index, r.Index+1)
	return true
}
