package service

import (
	"context"
	"log/slog"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/store"
	"dsvmpools/shared/tree"
)

// What the tests of this package, which come in from outside, need of its inside.
var (
	ErrBudget = errAllowance
	FindNode  = findNode
	RecordOf  = recordOf

	AccountName = accountName
)

const (
	MaxSecrets = maxSecrets
	MaxDepth   = maxDepth
	Overtaking = overtaking
)

// NewUsers is the accounts as another process has them.
func NewUsers(st *store.Store, now func() time.Time) *Users { return &Users{store: st, now: now} }

// Files removes files of jobs.
type Files = files

func NewFiles(share string) *Files { return newFiles(share) }

// Remove removes files within an allowance of entries.
func (f *Files) Remove(ctx context.Context, pool string, ids []string, entries int, stays func(id string, err error)) error {
	return f.remove(ctx, pool, ids, &allowance{entries}, stays)
}

// Hang stands for a removal that never comes to its end.
func (f *Files) Hang() { <-f.busy }

func (s *Service) Driver() *drive.Driver { return s.Jobs.driver }

// StartJobFiles does what is done with a report before the pool learns of it.
func (s *Service) StartJobFiles(ctx context.Context, r *protocol.Report) error {
	return s.Nodes.files.start(ctx, r)
}

func (s *Service) Supersede(ctx context.Context, older store.PushRecord) error {
	return s.Pushes.supersede(ctx, older)
}

func (s *Service) Find(ctx context.Context, id string) (*pool.Job, error) {
	return s.Jobs.ids.find(ctx, id)
}

// SplitByPool is for tests.
var SplitByPool = splitByPool

// NewTrees returns the trees on a share as another process has them.
func NewTrees(share string, now func() time.Time, log *slog.Logger) *Trees {
	return newTrees(share, tree.Limits{}, log, now)
}

// BoundIndex bounds the blobs that a process knows the places of.
func (t *Trees) BoundIndex(blobs int) { t.index.most = blobs }

// Indexed is the number of blobs that a process knows the places of.
func (t *Trees) Indexed() int {
	t.index.mu.Lock()
	defer t.index.mu.Unlock()
	return len(t.index.blobs)
}

// LastUse is when a pack was used last, as a process knows it.
func (t *Trees) LastUse(pack tree.Hash) time.Time {
	at, _ := t.index.lastUse(pack)
	return at
}

// HoldLongLists takes the turns of all long lists.
func (s *Jobs) HoldLongLists() (release func()) {
	for range cap(s.longLists) {
		s.longLists <- struct{}{}
	}
	return func() {
		for range cap(s.longLists) {
			<-s.longLists
		}
	}
}

// CopyEntries copies what a pool has noted, and does not have the pool forget it.
func (l *Ledger) CopyEntries(ctx context.Context, name string) (pool.Recorded, bool, error) {
	return l.copyEntries(ctx, name, logsAtOnce)
}
