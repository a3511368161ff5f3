package store

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// keysPerQuery bounds the row keys that one query names: the service takes 15
// comparisons in a filter, and the partition is one of them.
const keysPerQuery = 14

// FindAll is Find for many ids, with one request for up to keysPerQuery of them. An id
// that has never been used is not in the result. Only an id with capitals, or one that
// may be that of a sweep's member, and that has no row costs requests of its own.
func (d *IDs) FindAll(ctx context.Context, ids []string) (map[string]ID, error) {
	var mu sync.Mutex
	found := make(map[string]ID, len(ids)) // by row key
	keys := map[string][]string{}          // by partition
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		key := idKey(normalize(id))
		if id == "" || asked[key] {
			continue
		}
		asked[key] = true
		partition := idPartition(normalize(id))
		keys[partition] = append(keys[partition], key)
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for partition, rows := range keys {
		for len(rows) > 0 {
			part := rows[:min(len(rows), keysPerQuery)]
			rows = rows[len(part):]
			group.Go(func() error {
				_, err := d.table.Scan(grouped, "read ids", table.Query{Filter: anyOf(partition, part)}, func(raw []byte) error {
					id, _, err := decodeID(raw)
					if err != nil {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					found[idKey(normalize(id.ID))] = id
					return nil
				})
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := make(map[string]ID, len(ids))
	group, grouped = errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, id := range ids {
		if row, ok := found[idKey(normalize(id))]; ok {
			out[id] = row
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if _, ok := found[idKey(normalize(id))]; ok {
			continue
		}
		if _, _, isMember := job.MemberOf(id); id == "" || !isMember && foldCase(id) == id {
			continue
		}
		group.Go(func() error {
			row, err := d.Find(grouped, id)
			if fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = row
			return err
		})
	}
	return out, group.Wait()
}

// anyOf is the filter for some rows of a partition.
func anyOf(partition string, rows []string) string {
	var b strings.Builder
	b.WriteString("PartitionKey eq '" + table.Quote(partition) + "' and (")
	for i, row := range rows {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString("RowKey eq '" + table.Quote(row) + "'")
	}
	return b.String() + ")"
}
