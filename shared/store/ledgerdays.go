package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// LedgerDays lists the days that have rows in the ledger, the oldest first.
func (l *Ledger) LedgerDays(ctx context.Context) ([]time.Time, error) {
	names, err := partitions(ctx, l.table, "list the days of the ledger", "~")
	if err != nil {
		return nil, err
	}
	days := make([]time.Time, 0, len(names))
	for _, name := range names {
		if day, err := time.Parse(time.DateOnly, name); err == nil { // others are not of the ledger
			days = append(days, day)
		}
	}
	return days, nil
}

// HasUsage reports whether the ledger has any row.
func (l *Ledger) HasUsage(ctx context.Context) (bool, error) {
	found := false
	_, err := l.table.Scan(ctx, "look for a row of the ledger", table.Query{Fields: "PartitionKey", Limit: 1}, func([]byte) error {
		found = true
		return nil
	})
	return found, err
}

// UsageOfDay reads the rows of one day, of a pool or ("") of all, with what sums and reports
// need, and hands each to fn. Zero times are no bounds.
func (l *Ledger) UsageOfDay(
	ctx context.Context, on time.Time, name string, from, to time.Time, labels bool, fn func(usage.Entry) error,
) error {
	fields := reportFields
	if labels {
		fields += labelsField
	}
	partition := usage.Partition(on)
	filter := fmt.Sprintf("PartitionKey eq '%s'", partition)
	if name != "" {
		filter = table.Between(partition, name+"!", name+`"`)
	}
	if !from.IsZero() {
		filter += fmt.Sprintf(" and To ge datetime'%s' and To lt datetime'%s'",
			from.UTC().Format(table.TimeLayout), to.UTC().Format(table.TimeLayout))
	}
	_, err := l.table.Scan(ctx, "read usage", table.Query{Filter: filter, Fields: fields, Bare: true}, func(raw []byte) error {
		entry, err := decodeEntry(raw)
		if err != nil {
			return err
		}
		return fn(entry)
	})
	return err
}

// CountUsage counts the rows of a pool and day.
func (l *Ledger) CountUsage(ctx context.Context, on time.Time, name string) (n int, err error) {
	q := table.Query{Filter: table.Between(usage.Partition(on), name+"!", name+`"`), Fields: "RowKey", Bare: true}
	_, err = l.table.Scan(ctx, "count usage", q, func([]byte) error { n++; return nil })
	return n, err
}

// PoolsOfDay lists the pools that have rows in the ledger on a day.
func (l *Ledger) PoolsOfDay(ctx context.Context, on time.Time) (names []string, err error) {
	for last := ""; ; last = names[len(names)-1] + `"` {
		n := len(names)
		q := table.Query{
			Filter: fmt.Sprintf("PartitionKey eq '%s' and RowKey gt '%s'", usage.Partition(on), table.Quote(last)),
			Fields: "RowKey",
			Limit:  1,
		}
		_, err := l.table.Scan(ctx, "list the pools of a day", q, func(raw []byte) error {
			key, err := table.DecodeKey(raw)
			name, _, _ := strings.Cut(key, "!")
			names = append(names, name)
			return err
		})
		if err != nil || len(names) == n {
			return names, err
		}
	}
}
