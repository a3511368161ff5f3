package service

import (
	"context"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/store"
)

// What the tests of this package, which come in from outside, need of its inside.
var (
	ErrBudget = errBudget
	FindNode  = findNode
	RecordOf  = recordOf
)

const (
	MaxSecrets = maxSecrets
	MaxDepth   = maxDepth
	Overtaking = overtaking
)

// Files removes files of jobs.
type Files = files

func NewFiles(share string) *Files { return newFiles(share) }

// Remove removes files within a budget of entries.
func (f *Files) Remove(ctx context.Context, pool string, ids []string, entries int, stays func(id string, err error)) error {
	return f.remove(ctx, pool, ids, &budget{entries}, stays)
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
