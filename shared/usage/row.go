package usage

import "time"

// Row is one row of the table `usage`, whose schema is public: the entry and
// what follows from it. docs/usage.md says what each property means.
type Row struct {
	Entry
	Seconds     time.Duration // length of the entry
	NodeSeconds time.Duration // of the whole node: its share of Seconds; 0 when the share is unknown
	Cost        string        // decimal, or UnknownPrice
}

// dayLayout names a partition: the UTC day on which an entry ended.
const dayLayout = "2006-01-02"

// NewRow computes the row of an entry.
func NewRow(e Entry) Row {
	row := Row{Entry: e, Cost: UnknownPrice}
	row.From, row.To = e.From.UTC().Truncate(Tick), e.To.UTC().Truncate(Tick)
	row.Seconds = time.Duration(e.length()) * Tick
	if cpus, of, ok := e.share(); ok {
		row.NodeSeconds = portion(row.Seconds, cpus, of)
	}
	if cost, ok := e.Cost(); ok {
		row.Cost = amount(cost, rowDecimals)
	}
	return row
}

// portion is d * cpus / of, rounded down to a tick, without overflow for any
// length of time a node can live.
func portion(d time.Duration, cpus, of int64) time.Duration {
	ticks := int64(d / Tick)
	return time.Duration(ticks/of*cpus+ticks%of*cpus/of) * Tick
}

// Partition is the key of the partition that holds an entry which ended at to:
// rows are written when their entry has ended, so that the partition of a day
// that is over does not change any more.
func Partition(to time.Time) string { return to.UTC().Format(dayLayout) }

// Keys are the keys of an entry's row: stable, and unique for its kind, pool
// and key.
func (e *Entry) Keys() (partition, row string) {
	return Partition(e.To), e.Pool + "!" + e.Kind + "!" + e.Key
}
