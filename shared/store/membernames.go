package store

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// The id of a sweep's member is <id of the sweep>.<index>. It is not registered
// itself, so that a job could take it as its own id. These two questions prevent that
// from either side.

// IsMemberOfSweep reports whether an id is that of a member of a sweep that is
// registered, whether the sweep is taken in already or not.
func (d *IDs) IsMemberOfSweep(ctx context.Context, id string) (bool, error) {
	of, index, ok := job.MemberOf(id)
	if !ok {
		return false, nil
	}
	sweep, err := d.ID(ctx, of)
	if fault.CodeOf(err) == fault.NotFound || err == nil && sweep.State == job.Rejected {
		return false, nil
	}
	if err != nil || sweep.End.Members > 0 || sweep.HasEnded() {
		return index < sweep.End.Members, err
	}
	// Rows of earlier versions say nothing of members until the sweep has ended.
	j, err := d.pools.Job(ctx, sweep.Pool, sweep.Order)
	if fault.CodeOf(err) == fault.NotFound {
		return false, nil
	}
	return err == nil && j.Spec.Sweep != nil && index < j.Spec.Sweep.Members(), err
}

// errFound ends a scan that has found what it looks for.
var errFound = errors.New("found")

// FindTakenMember finds a job whose own id is that of a member, which a sweep with this
// id and so many members would have; "" = there is none.
func (d *IDs) FindTakenMember(ctx context.Context, sweep string, members int) (string, error) {
	spellings := []string{foldCase(sweep)}
	if sweep != spellings[0] { // rows of earlier versions have the capitals in their keys
		spellings = append(spellings, sweep)
	}
	var mu sync.Mutex
	taken := ""
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, partition := range "0123456789abcdef" {
		for _, id := range spellings {
			from, to := escapeKey(id+".0"), escapeKey(id)+".:" // the character after 9
			q := table.Query{Filter: table.Between(string(partition), from, to)}
			group.Go(func() error {
				_, err := d.table.Scan(ctx, "look for jobs with the ids of members", q, func(raw []byte) error {
					found, _, err := decodeID(raw)
					if err != nil {
						return err
					}
					of, index, ok := job.MemberOf(found.ID)
					if !ok || foldCase(of) != foldCase(sweep) || index >= members || found.State == job.Rejected {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					taken = found.ID
					return errFound
				})
				return err
			})
		}
	}
	if err := group.Wait(); err != nil && taken == "" {
		return "", err
	}
	return taken, nil
}
