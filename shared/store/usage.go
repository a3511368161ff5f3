package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/usage"
)

// usageWorkers bounds how many transactions of one Record are under way: days
// are different partitions.
const usageWorkers = 4

// Record copies entries into the table of usage. It may be repeated with the
// same entries: their keys and rows are the same again.
func (s *Store) Record(ctx context.Context, entries []usage.Entry) error {
	days := map[string]map[string][]byte{} // rows by partition and key; the same entry twice is one row
	for i := range entries {
		day, key := entries[i].Keys()
		if days[day] == nil {
			days[day] = map[string][]byte{}
		}
		row := usage.NewRow(entries[i])
		days[day][key] = encodeUsage(day, key, &row)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(usageWorkers)
	for _, rows := range days {
		var actions []aztables.TransactionAction
		size := 0
		send := func() {
			batch := actions
			actions, size = nil, 0
			group.Go(func() error {
				return s.call(ctx, "record usage", func(ctx context.Context) error {
					_, err := s.submit(ctx, s.usage, batch)
					return err
				})
			})
		}
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			row := rows[key]
			if len(actions) == MaxRows || len(actions) > 0 && size+len(row)+operationBytes > maxBytes {
				send()
			}
			actions = append(actions, aztables.TransactionAction{ActionType: aztables.TransactionTypeInsertReplace, Entity: row})
			size += len(row) + operationBytes
		}
		send()
	}
	return group.Wait()
}

// Usage reads the rows of what ended in a time, from <= To < to, day by day,
// and hands each to fn. Days outside are not touched. An error of fn ends the
// reading and is returned as it is.
func (s *Store) Usage(ctx context.Context, from, to time.Time, fn func(usage.Row) error) error {
	if !from.Before(to) {
		return nil
	}
	q := query{filter: fmt.Sprintf("PartitionKey ge '%s' and PartitionKey le '%s'", usage.Partition(from), usage.Partition(to.Add(-usage.Tick)))}
	_, err := s.scan(ctx, "read usage", s.usage, q, func(raw []byte) error {
		row, err := decodeUsage(raw)
		if err != nil {
			return err
		}
		if row.To.Before(from) || !row.To.Before(to) {
			return nil
		}
		return fn(row)
	})
	return err
}

// encodeUsage writes a row of the public schema: every property is there, so
// that reports see the same columns in every row.
func encodeUsage(day, key string, r *usage.Row) []byte {
	e := newEntity(day, key)
	e.full = true
	e.text("Kind", r.Kind)
	e.text("Key", r.Key)
	e.text("Pool", r.Pool)
	e.text("Team", r.Team)
	e.text("User", r.User)
	e.text("Job", r.Job)
	e.text("JobName", r.JobName)
	e.int("Attempt", r.Attempt)
	e.text("State", r.State)
	e.int64("ExitCode", int64(r.ExitCode))
	e.text("Node", r.Node)
	e.text("VMID", r.VMID)
	e.text("Size", r.Size)
	e.bool("Spot", r.Spot)
	e.int("CPUs", r.CPUs)
	e.int("NodeCPUs", r.NodeCPUs)
	e.int("GPUs", r.GPUs)
	e.int("NodeGPUs", r.NodeGPUs)
	e.int64("Memory", r.Memory)
	e.int64("NodeMemory", r.NodeMem)
	e.number("Share", strconv.FormatFloat(r.Share, 'f', -1, 64))
	e.time("From", r.From)
	e.time("To", r.To)
	e.seconds("Seconds", r.Seconds)
	e.seconds("NodeSeconds", r.NodeSeconds)
	e.seconds("BootSeconds", r.Boot)
	e.seconds("BusySeconds", r.Busy)
	e.seconds("IdleSeconds", r.Idle)
	e.seconds("DrainingSeconds", r.Draining)
	e.text("PricePerHour", r.Price)
	e.text("Currency", r.Currency)
	e.text("Cost", r.Cost)
	e.text("Labels", labels(r.Labels))
	return e.end()
}

func (e *entity) seconds(name string, d time.Duration) {
	e.number(name, usage.Ticks(d/usage.Tick).String())
}

// labels is as many labels as fit into a property, as JSON, by name.
func labels(all map[string]string) string {
	if len(all) == 0 {
		return ""
	}
	text, err := compact(all)
	if err == nil && cut(text, chunkUnits) == text {
		return text
	}
	kept, size := map[string]string{}, len("{}")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		pair, _ := json.Marshal(map[string]string{name: all[name]}) // strings can always be written
		if size += len(pair); size > chunkUnits {
			break
		}
		kept[name] = all[name]
	}
	text, _ = compact(kept)
	return text
}

func decodeUsage(raw []byte) (usage.Row, error) {
	var row struct {
		Kind, Key, Pool, Team, User, Job, JobName, State, Node, VMID, Size string
		PricePerHour, Currency, Labels                                     string
		Attempt, ExitCode, CPUs, NodeCPUs                                  number
		GPUs, NodeGPUs, Memory, NodeMemory                                 number
		Spot                                                               bool
		From, To                                                           time.Time
		BootSeconds, BusySeconds, IdleSeconds, DrainingSeconds             float64
	}
	if err := decode(raw, &row); err != nil {
		return usage.Row{}, err
	}
	length := func(seconds float64) time.Duration {
		return time.Duration(math.Round(seconds*float64(time.Second/usage.Tick))) * usage.Tick
	}
	entry := usage.Entry{
		Kind: row.Kind, Key: row.Key, Pool: row.Pool, Team: row.Team, User: row.User,
		Job: row.Job, JobName: row.JobName, Attempt: int(row.Attempt), State: row.State, ExitCode: int(row.ExitCode),
		Node: row.Node, VMID: row.VMID, Size: row.Size, Spot: row.Spot, CPUs: int(row.CPUs), NodeCPUs: int(row.NodeCPUs),
		GPUs: int(row.GPUs), NodeGPUs: int(row.NodeGPUs), Memory: int64(row.Memory), NodeMem: int64(row.NodeMemory),
		From: when(row.From), To: when(row.To),
		Boot: length(row.BootSeconds), Busy: length(row.BusySeconds), Idle: length(row.IdleSeconds), Draining: length(row.DrainingSeconds),
		Price: row.PricePerHour, Currency: row.Currency,
	}
	if row.Labels != "" {
		if err := json.Unmarshal([]byte(row.Labels), &entry.Labels); err != nil {
			return usage.Row{}, damaged(raw, fmt.Errorf("its labels: %w", err))
		}
	}
	return usage.NewRow(entry), nil
}
