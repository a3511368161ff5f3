package store

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
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

// EndStates says in which pools jobs are and how they have ended, by their ids. If the
// rows of a job are gone, its id says how it ended. An id that nobody remembers, and
// that is no member of a sweep that somebody remembers, is Forgotten.
func (d *IDs) EndStates(ctx context.Context, ids []string) (map[string]pool.EndState, error) {
	states := make(map[string]pool.EndState, len(ids))
	open, err := d.readEnds(ctx, ids, states)
	if err != nil {
		return nil, err
	}
	var again []string
	for name, orders := range open {
		done, err := d.pools.finishedStates(ctx, name, slices.Collect(maps.Values(orders)))
		if err != nil {
			return nil, err
		}
		for id, order := range orders {
			if state, ok := done[order]; ok {
				states[id] = pool.EndState{Pool: name, State: state}
			} else if states[id].State == "" {
				again = append(again, id)
			}
		}
	}
	if _, err = d.readEnds(ctx, again, states); err != nil { // a tombstone was there before its row went
		return nil, err
	}
	return states, d.markForgotten(ctx, ids, states)
}

// readEnds adds to states what ids say themselves of their jobs. open is the orders, by
// pool and id, of the jobs whose finished rows say how they ended. Those of a sweep's
// members are always among them: while they are there, the id of the sweep cannot say
// how each member has ended.
func (d *IDs) readEnds(ctx context.Context, ids []string, states map[string]pool.EndState) (open map[string]map[string]string, err error) {
	rows, err := d.FindAll(ctx, ids)
	if err != nil {
		return nil, err
	}
	open = map[string]map[string]string{}
	for id, row := range rows {
		states[id] = pool.EndState{Pool: row.Pool, State: row.State}
		if row.State == job.Rejected {
			continue
		}
		if _, _, isMember := job.SweepOrder(row.Order); isMember || !row.HasEnded() {
			if open[row.Pool] == nil {
				open[row.Pool] = map[string]string{}
			}
			open[row.Pool][id] = row.Order
		}
	}
	return open, nil
}

// markForgotten adds the ids to states that are not remembered. A member is not when its
// sweep is not: while a sweep is on its way, nobody knows of its members yet.
func (d *IDs) markForgotten(ctx context.Context, ids []string, states map[string]pool.EndState) error {
	registered := map[string]string{} // by id: the id that is registered if somebody remembers it
	for _, id := range ids {
		if _, known := states[id]; known || id == "" {
			continue
		}
		registered[id] = id
		if sweep, _, isMember := job.MemberOf(id); isMember {
			registered[id] = sweep
		}
	}
	if len(registered) == 0 {
		return nil
	}
	rows, err := d.FindAll(ctx, slices.Collect(maps.Values(registered)))
	if err != nil {
		return err
	}
	for id, of := range registered {
		if _, known := rows[of]; !known {
			states[id] = pool.EndState{Forgotten: true}
		}
	}
	return nil
}

// finishedStates reads the states of finished jobs by their orders, with one request for
// up to keysPerQuery of them. It leaves out those that have no row.
func (p *Pools) finishedStates(ctx context.Context, name string, orders []string) (map[string]job.State, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	states := make(map[string]job.State, len(orders))
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for chunk := range slices.Chunk(orders, keysPerQuery) {
		byKey := make(map[string]string, len(chunk))
		for _, order := range chunk {
			byKey[pool.DoneKey(order)] = order
		}
		q := table.Query{Filter: anyOf(name, slices.Sorted(maps.Keys(byKey))), Fields: "PartitionKey,RowKey,State"}
		group.Go(func() error {
			_, err := p.table.Scan(grouped, "read finished jobs of pool "+name, q, func(raw []byte) error {
				var row struct{ RowKey, State string }
				if err := table.Decode(raw, &row); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				states[byKey[row.RowKey]] = job.State(row.State)
				return nil
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return states, nil
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
