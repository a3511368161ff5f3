package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
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

// UsageEntry reads one entry by its kind, pool, key and end. NotFound: it is not recorded, or not
// kept any more.
func (l *Ledger) UsageEntry(ctx context.Context, e usage.Entry) (usage.Entry, error) {
	day, key := e.Keys()
	raw, _, err := l.table.Get(ctx, "read a row of usage", day, key)
	if err != nil {
		return usage.Entry{}, err
	}
	return decodeEntry(raw)
}

// Usage reads the rows of what ended in a time, from <= To < to, day by day,
// and hands each to fn. It does not read other days. An error of fn ends the
// reading and is returned as it is.
func (l *Ledger) Usage(ctx context.Context, from, to time.Time, fn func(usage.Row) error) error {
	if !from.Before(to) {
		return nil
	}
	return l.scanDays(ctx, dayOf(from), dayOf(to.Add(-usage.Tick)), "", "", func(e usage.Entry) error {
		row := usage.NewRow(e)
		if row.To.Before(from) || !row.To.Before(to) {
			return nil
		}
		return fn(row)
	})
}

// reportFields are the properties of a row that a report needs; labels are long, and few
// reports need them. A third of a row is read in a third of the time.
const (
	reportFields = "PartitionKey,RowKey,Kind,Key,Pool,Team,User,Job,State,Size,Spot,CPUs,NodeCPUs,GPUs,NodeGPUs,Memory,NodeMemory," +
		"From,To,BootSeconds,IdleSeconds,DrainingSeconds,PricePerHour,Currency"
	labelsField = ",Labels"
)

// UsageForReport is Usage, of one pool or ("") of all, with what a report needs of each row: not its Cost, and no labels if it
// does not need them. Parts of the time are read side by side: the rows come one by one, and days in
// any order.
func (l *Ledger) UsageForReport(ctx context.Context, pool string, from, to time.Time, labels bool, fn func(usage.Row) error) error {
	if !from.Before(to) {
		return nil
	}
	fields := reportFields
	if labels {
		fields += labelsField
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(usageWorkers)
	first, last := dayOf(from), dayOf(to.Add(-usage.Tick))
	days := int(last.Sub(first)/day) + 1
	span := max(1, (days+usageParts-1)/usageParts) // days in one part
	for begin := first; !begin.After(last); begin = begin.AddDate(0, 0, span) {
		end := begin.AddDate(0, 0, span-1)
		if end.After(last) {
			end = last
		}
		group.Go(func() error {
			return l.scanDays(ctx, begin, end, pool, fields, func(e usage.Entry) error {
				row := usage.NewUncostedRow(e)
				if row.To.Before(from) || !row.To.Before(to) {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				return fn(row)
			})
		})
	}
	return group.Wait()
}

// nodeFields are the properties of a row of a node that say when it did what.
const nodeFields = "PartitionKey,RowKey,Kind,Key,Pool,Node,VMID,From,To,BootSeconds,BusySeconds,IdleSeconds,DrainingSeconds,Phases"

// NodeIntervals reads the intervals of a pool's nodes that ended after from, up to the end of the
// day of to: what there was when, and not what it cost.
func (l *Ledger) NodeIntervals(ctx context.Context, pool string, from, to time.Time, fn func(usage.Entry) error) error {
	begin := pool + "!" + usage.KindNode
	filter := fmt.Sprintf("PartitionKey ge '%s' and PartitionKey le '%s' and RowKey ge '%s' and RowKey lt '%s'",
		usage.Partition(from), usage.Partition(to), table.Quote(begin+"!"), table.Quote(begin+`"`))
	_, err := l.table.Scan(ctx, "read what nodes did", table.Query{Filter: filter, Fields: nodeFields, Bare: true}, func(raw []byte) error {
		e, err := decodeEntry(raw)
		if err != nil || !e.To.After(from) {
			return err
		}
		return fn(e)
	})
	return err
}

// usageParts bounds the parts in which a report reads its time.
const usageParts = 32

const day = 24 * time.Hour

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(day) }

// scanDays reads the rows of some days, first and last included; fields are the properties
// to read, "" for all.
func (l *Ledger) scanDays(ctx context.Context, first, last time.Time, pool, fields string, fn func(usage.Entry) error) error {
	filter := fmt.Sprintf("PartitionKey ge '%s' and PartitionKey le '%s'", usage.Partition(first), usage.Partition(last))
	if pool != "" {
		filter += fmt.Sprintf(" and RowKey ge '%s' and RowKey lt '%s'", table.Quote(pool+"!"), table.Quote(pool+`"`))
	}
	q := table.Query{Filter: filter, Fields: fields, Bare: true}
	_, err := l.table.Scan(ctx, "read usage", q, func(raw []byte) error {
		entry, err := decodeEntry(raw)
		if err != nil {
			return err
		}
		return fn(entry)
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
	if r.Phases != "" {
		e.Text("Phases", string(r.Phases))
	}
	e.Text("PricePerHour", r.Price)
	e.Text("Currency", r.Currency)
	e.Text("VMPerHour", r.Parts.VM)
	e.Text("DiskPerHour", r.Parts.Disk)
	e.Text("AddressPerHour", r.Parts.Address)
	e.Text("PriceSource", r.Parts.Source)
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

// decodeEntry reads the entry of a row; the rest of the row follows from it.
func decodeEntry(raw []byte) (usage.Entry, error) {
	var row struct {
		Kind, Key, Pool, Team, User, Job, JobName, State, Node, VMID, Size string
		PricePerHour, Currency, Labels, Phases                             string
		VMPerHour, DiskPerHour, AddressPerHour, PriceSource                string
		Attempt, ExitCode, CPUs, NodeCPUs                                  table.Number
		GPUs, NodeGPUs, Memory, NodeMemory                                 table.Number
		Spot                                                               bool
		From, To                                                           time.Time
		BootSeconds, BusySeconds, IdleSeconds, DrainingSeconds             float64
	}
	if err := table.Decode(raw, &row); err != nil {
		return usage.Entry{}, err
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
		Phases:   usage.Phases(row.Phases),
		Price:    row.PricePerHour,
		Currency: row.Currency,
		Parts:    usage.Parts{VM: row.VMPerHour, Disk: row.DiskPerHour, Address: row.AddressPerHour, Source: row.PriceSource},
	}
	if err := table.DecodeOptional(raw, "its labels", row.Labels, &entry.Labels); err != nil {
		return usage.Entry{}, err
	}
	return entry, nil
}
