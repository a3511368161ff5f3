package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Commit writes one step of a pool in one transaction: the head, on condition
// that v is still the current version, and the changes. The caller has raised
// head.Seq and given head.Nonce a value that nobody else uses. With the zero
// Version the pool is created.
//
// It returns the new version. Conflict says that v was not current any more:
// load again and do the step anew. (It may be that the step was written, its
// reply lost, and somebody has built upon it already; steps are made so that
// doing them again is harmless.) After any other error than Conflict and
// Invalid the outcome is unknown, as the service could not be asked; the next
// Commit on v finds out. A refusal because of size is Invalid with ErrTooLarge
// as its cause.
func (s *Store) Commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (pool.Version, error) {
	return s.commit(ctx, name, v, head, changes, true)
}

func (s *Store) commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change, told bool) (pool.Version, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return pool.Version{}, err
	}
	if head.Nonce == "" || head.Nonce == v.Nonce || head.Seq <= v.Seq {
		return pool.Version{}, fault.New(fault.Internal, "", "a transaction on pool %s needs a raised Seq and a Nonce of its own", name)
	}
	spec, err := compact(&head.Spec)
	if err != nil {
		return pool.Version{}, err
	}
	what := "commit to pool " + name
	if !v.IsZero() && v.ETag == "" {
		// A condition that is empty would be none.
		_, current, err := s.head(ctx, name)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return pool.Version{}, err
		}
		if !current.Same(v) {
			return pool.Version{}, lost(name, err)
		}
		v = current
	}
	next := pool.Version{Seq: head.Seq, Nonce: head.Nonce, SpecHash: fingerprint(spec)}
	actions, err := transaction(name, v, &head, next.SpecHash, spec, changes)
	// A transaction that is full goes without its edit: who is behind it loads.
	if told && len(actions) < MaxRows {
		actions = append(actions, aztables.TransactionAction{ActionType: aztables.TransactionTypeInsertReplace,
			Entity: encodeEdit(name, edit{head.Seq, head.Nonce, v.Nonce, pool.ChangedKeys(changes)})})
	}
	if err != nil {
		return pool.Version{}, err
	}
	for try := 1; ; try++ {
		etag, err := s.submit(ctx, s.pools, actions)
		if err == nil && etag != "" {
			next.ETag = string(etag)
			return next, nil
		}
		var refused *refusal
		if errors.As(err, &refused) && actions != nil {
			if left, changed := withoutGone(actions, refused); changed {
				actions, try = left, try-1
				continue
			}
		}
		if errors.As(err, &refused) && !raced(refused) || fault.CodeOf(err) == fault.Invalid {
			return pool.Version{}, s.fault(what, err)
		}
		// Who has won tells the head: this transaction's nonce is its own.
		_, current, read := s.head(ctx, name)
		if fault.CodeOf(read) == fault.NotFound {
			read = nil
		}
		switch {
		case read != nil:
			return pool.Version{}, wrap(fault.CodeOf(read), errors.Join(read, err), "%s: it is not known whether it was written", what)
		case current.Same(next):
			next.ETag = current.ETag
			return next, nil
		case err == nil:
			// Written, and already built upon by somebody: the next Commit
			// on this version shall lose.
			next.ETag = noVersion
			return next, nil
		case refused != nil || !current.Same(v):
			return pool.Version{}, lost(name, err)
		}
		// Not written, as far as can be seen. Should it still arrive, the
		// condition lets only one of the two tries through.
		if try == tries || ctx.Err() != nil || !transient(err) || !pause(ctx, try, err) {
			return pool.Version{}, s.fault(what, err)
		}
	}
}

// noVersion is an ETag that no row has.
const noVersion = `W/"datetime'1601-01-01T00%3A00%3A00Z'"`

// ifMatch is the condition that a version is still the current one.
func ifMatch(v pool.Version) *azcore.ETag {
	etag := azcore.ETag(v.ETag)
	return &etag
}

func lost(name string, cause error) error {
	return wrap(fault.Conflict, cause, "pool %s was changed by somebody else; load it again", name)
}

// raced tells a refusal because of what others wrote from one because of what
// this transaction says.
func raced(r *refusal) bool {
	return r.code == string(aztables.UpdateConditionNotSatisfied) || r.code == string(aztables.EntityAlreadyExists) ||
		r.code == string(aztables.ResourceNotFound) || r.code == string(aztables.EntityNotFound)
}

// transaction puts the rows of a step together, the head first.
func transaction(name string, v pool.Version, head *pool.Head, fingerprint, spec string, changes []pool.Change) ([]aztables.TransactionAction, error) {
	actions := make([]aztables.TransactionAction, 0, 1+len(changes))
	add := func(kind aztables.TransactionType, entity []byte, err error, match *azcore.ETag) error {
		actions = append(actions, aztables.TransactionAction{ActionType: kind, Entity: entity, IfMatch: match})
		return err
	}
	var err error
	switch {
	case v.IsZero():
		entity, encoded := encodeHead(name, head, fingerprint, spec)
		err = add(aztables.TransactionTypeAdd, entity, encoded, nil)
	case v.SpecHash == fingerprint:
		// The spec is by far the longest part of the head and hardly ever
		// changes: a merge leaves it where it is.
		entity, encoded := encodeHead(name, head, fingerprint, "")
		err = add(aztables.TransactionTypeUpdateMerge, entity, encoded, ifMatch(v))
	default:
		entity, encoded := encodeHead(name, head, fingerprint, spec)
		err = add(aztables.TransactionTypeUpdateReplace, entity, encoded, ifMatch(v))
	}
	for i := 0; i < len(changes) && err == nil; i++ {
		c := &changes[i]
		kind := aztables.TransactionTypeInsertReplace
		if c.Insert {
			kind = aztables.TransactionTypeAdd
		}
		switch value := c.Value.(type) {
		case nil:
			always := azcore.ETagAny
			err = add(aztables.TransactionTypeDelete, newEntity(name, c.Key).end(), nil, &always)
		case *pool.Node:
			err = add(kind, encodeNode(name, c.Key, value), nil, nil)
		case *pool.Job:
			entity, encoded := encodeJob(name, c.Key, value)
			err = add(kind, entity, encoded, nil)
		case *pool.Log:
			entity, encoded := encodeLog(name, c.Key, value)
			err = add(kind, entity, encoded, nil)
		default:
			err = fault.New(fault.Internal, "", "a row cannot hold %s", fmt.Sprintf("%T", value))
		}
	}
	return actions, err
}

// withoutGone leaves the deletion of a ledger row out that failed since the row is
// gone: somebody else has recorded it as well.
func withoutGone(actions []aztables.TransactionAction, r *refusal) ([]aztables.TransactionAction, bool) {
	if r.index < 0 || r.index >= len(actions) || r.status != http.StatusNotFound || actions[r.index].ActionType != aztables.TransactionTypeDelete {
		return nil, false
	}
	var row struct{ RowKey string }
	if json.Unmarshal(actions[r.index].Entity, &row) != nil || !strings.HasPrefix(row.RowKey, pool.LogPrefix) {
		return nil, false
	}
	return slices.Delete(slices.Clone(actions), r.index, r.index+1), true
}
