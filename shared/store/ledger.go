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

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// Ledger is the table of usage: a row for each attempt and each interval of a node.
// Its schema is public; docs/usage.md has it.
type Ledger struct{ table *table.Table }

// usageWorkers bounds how many transactions of one Record are under way: days
// are different partitions.
const usageWorkers = 4

// Record copies entries into the ledger. It may be repeated with the same entries:
// their keys and rows are the same again.
func (l *Ledger) Record(ctx context.Context, entries []usage.Entry) error {
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
		operations := make([]table.Operation, 0, len(rows))
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			operations = append(operations, table.Operation{Kind: table.Put, Row: rows[key]})
		}
		for _, batch := range table.Batches(operations) {
			group.Go(func() error { return l.table.Transact(ctx, "record usage", batch) })
		}
	}
	return group.Wait()
}

// Usage reads the rows of what ended in a time, from <= To < to, day by day,
// and hands each to fn. It does not read other days. An error of fn ends the
// reading and is returned as it is.
func (l *Ledger) Usage(ctx context.Context, from, to time.Time, fn func(usage.Row) error) error {
	if !from.Before(to) {
		return nil
	}
	first, last := usage.Partition(from), usage.Partition(to.Add(-usage.Tick))
	q := table.Query{Filter: fmt.Sprintf("PartitionKey ge '%s' and PartitionKey le '%s'", first, last)}
	_, err := l.table.Scan(ctx, "read usage", q, func(raw []byte) error {
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
	e := table.NewFullRow(day, key)
	e.Text("Kind", r.Kind)
	e.Text("Key", r.Key)
	e.Text("Pool", r.Pool)
	e.Text("Team", r.Team)
	e.Text("User", r.User)
	e.Text("Job", r.Job)
	e.Text("JobName", r.JobName)
	e.Int("Attempt", r.Attempt)
	e.Text("State", r.State)
	e.Int64("ExitCode", int64(r.ExitCode))
	e.Text("Node", r.Node)
	e.Text("VMID", r.VMID)
	e.Text("Size", r.Size)
	e.Bool("Spot", r.Spot)
	e.Int("CPUs", r.CPUs)
	e.Int("NodeCPUs", r.NodeCPUs)
	e.Int("GPUs", r.GPUs)
	e.Int("NodeGPUs", r.NodeGPUs)
	e.Int64("Memory", r.Memory)
	e.Int64("NodeMemory", r.NodeMem)
	e.Double("Share", strconv.FormatFloat(r.Share, 'f', -1, 64))
	e.Time("From", r.From)
	e.Time("To", r.To)
	writeSeconds(e, "Seconds", r.Seconds)
	writeSeconds(e, "NodeSeconds", r.NodeSeconds)
	writeSeconds(e, "BootSeconds", r.Boot)
	writeSeconds(e, "BusySeconds", r.Busy)
	writeSeconds(e, "IdleSeconds", r.Idle)
	writeSeconds(e, "DrainingSeconds", r.Draining)
	e.Text("PricePerHour", r.Price)
	e.Text("Currency", r.Currency)
	e.Text("Cost", r.Cost)
	e.Text("Labels", encodeLabels(r.Labels))
	return e.JSON()
}

func writeSeconds(e *table.Row, name string, d time.Duration) {
	e.Double(name, usage.Ticks(d/usage.Tick).String())
}

// encodeLabels writes as many labels as fit into a property, as JSON, by name.
func encodeLabels(all map[string]string) string {
	if len(all) == 0 {
		return ""
	}
	text, err := table.Compact(all)
	if err == nil && table.Cut(text, table.ChunkUnits) == text {
		return text
	}
	fitting, size := map[string]string{}, len("{}")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		pair, _ := json.Marshal(map[string]string{name: all[name]}) // strings can always be written
		if size += len(pair); size > table.ChunkUnits {
			break
		}
		fitting[name] = all[name]
	}
	text, _ = table.Compact(fitting)
	return text
}

func decodeUsage(raw []byte) (usage.Row, error) {
	var row struct {
		Kind, Key, Pool, Team, User, Job, JobName, State, Node, VMID, Size string
		PricePerHour, Currency, Labels                                     string
		Attempt, ExitCode, CPUs, NodeCPUs                                  table.Number
		GPUs, NodeGPUs, Memory, NodeMemory                                 table.Number
		Spot                                                               bool
		From, To                                                           time.Time
		BootSeconds, BusySeconds, IdleSeconds, DrainingSeconds             float64
	}
	if err := table.Decode(raw, &row); err != nil {
		return usage.Row{}, err
	}
	length := func(seconds float64) time.Duration {
		return time.Duration(math.Round(seconds*float64(time.Second/usage.Tick))) * usage.Tick
	}
	entry := usage.Entry{
		Kind:     row.Kind,
		Key:      row.Key,
		Pool:     row.Pool,
		Team:     row.Team,
		User:     row.User,
		Job:      row.Job,
		JobName:  row.JobName,
		Attempt:  int(row.Attempt),
		State:    row.State,
		ExitCode: int(row.ExitCode),
		Node:     row.Node,
		VMID:     row.VMID,
		Size:     row.Size,
		Spot:     row.Spot,
		CPUs:     int(row.CPUs),
		NodeCPUs: int(row.NodeCPUs),
		GPUs:     int(row.GPUs),
		NodeGPUs: int(row.NodeGPUs),
		Memory:   int64(row.Memory),
		NodeMem:  int64(row.NodeMemory),
		From:     table.TimeOf(row.From),
		To:       table.TimeOf(row.To),
		Boot:     length(row.BootSeconds),
		Busy:     length(row.BusySeconds),
		Idle:     length(row.IdleSeconds),
		Draining: length(row.DrainingSeconds),
		Price:    row.PricePerHour,
		Currency: row.Currency,
	}
	if err := table.DecodeOptional(raw, "its labels", row.Labels, &entry.Labels); err != nil {
		return usage.Row{}, err
	}
	return usage.NewRow(entry), nil
}
