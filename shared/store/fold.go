package store

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// Ids are compared without letter case, as the folders of jobs are on the share, which
// is Azure Files. So rows of ids have their keys in small letters; what the id was written
// as is in the row.

// fold is an id as ids are compared. Only the letters that an id may have are folded: a
// refused document may have any id, and two of those need not be the same.
func fold(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, id)
}

// adopt looks for the row that an earlier version has written for an id with capitals,
// under a key that has them too, and copies it to where it belongs. NotFound when there
// is none, or the id has no capitals.
func (s *Store) adopt(ctx context.Context, id string) (found ID, nonce string, etag azcore.ETag, err error) {
	none := fault.New(fault.NotFound, "id", "there is no job with the id %.128q", id)
	if fold(id) == id {
		return ID{}, "", "", none
	}
	raw, _, err := s.get(ctx, "read an id", s.ids, partitionOf(id), keyOf(id))
	if fault.CodeOf(err) == fault.NotFound {
		return ID{}, "", "", none
	}
	if err != nil {
		return ID{}, "", "", err
	}
	if found, nonce, err = decodeID(raw); err != nil {
		return ID{}, "", "", err
	}
	err = s.call(ctx, "keep an id under its folded key", func(ctx context.Context) error {
		_, err := s.ids.AddEntity(ctx, encodeID(&found, nonce), nil)
		return err
	})
	if err != nil && fault.CodeOf(err) != fault.Conflict { // somebody else has copied it
		return ID{}, "", "", err
	}
	raw, etag, err = s.get(ctx, "read an id", s.ids, idPartition(id), idKey(id))
	if err != nil {
		return ID{}, "", "", err
	}
	found, nonce, err = decodeID(raw)
	return found, nonce, etag, err
}

// adoptAll makes sure that ids about to be taken were not taken under a key with
// capitals. It costs a read for each that has capitals.
func (s *Store) adoptAll(ctx context.Context, ids []ID) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i := range ids {
		if id := ids[i].ID; fold(id) != id {
			group.Go(func() error {
				if _, _, _, err := s.adopt(ctx, id); fault.CodeOf(err) != fault.NotFound {
					return err
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// IsMemberOfSweep reports whether an id is that of a member of a sweep that is registered,
// whether it is taken in already or not.
func (s *Store) IsMemberOfSweep(ctx context.Context, id string) (bool, error) {
	of, index, ok := job.MemberOf(id)
	if !ok {
		return false, nil
	}
	sweep, err := s.ID(ctx, of)
	if fault.CodeOf(err) == fault.NotFound || err == nil && sweep.State == job.Rejected {
		return false, nil
	}
	if err != nil || sweep.End.Members > 0 || sweep.HasEnded() {
		return index < sweep.End.Members, err
	}
	// Rows of before say nothing of members until the sweep has ended.
	j, err := s.Job(ctx, sweep.Pool, sweep.Order)
	if fault.CodeOf(err) == fault.NotFound {
		return false, nil
	}
	return err == nil && j.Spec.Sweep != nil && index < j.Spec.Sweep.Members(), err
}

// errSeen ends a scan that has seen enough.
var errSeen = fmt.Errorf("seen")

// FindTakenMember finds a job whose own id is that of a member, which a sweep of this id and
// so many members would have; "" = there is none.
func (s *Store) FindTakenMember(ctx context.Context, sweep string, members int) (string, error) {
	spellings := []string{fold(sweep)}
	if sweep != spellings[0] { // rows of before have the capitals in their keys
		spellings = append(spellings, sweep)
	}
	var mu sync.Mutex
	taken := ""
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, partition := range "0123456789abcdef" {
		for _, id := range spellings {
			q := query{filter: between(string(partition), keyOf(id+".0"), keyOf(id)+".:")} // the character behind 9
			group.Go(func() error {
				_, err := s.scan(ctx, "look for jobs with the ids of members", s.ids, q, func(raw []byte) error {
					found, _, err := decodeID(raw)
					if err != nil {
						return err
					}
					of, index, ok := job.MemberOf(found.ID)
					if !ok || fold(of) != fold(sweep) || index >= members || found.State == job.Rejected {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					taken = found.ID
					return errSeen
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
