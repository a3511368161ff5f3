package usage

import (
	"math/bits"
	"time"
)

// Row is one row of the table `usage`, whose schema is public: the entry and
// what follows from it. docs/usage.md says what each property means.
type Row struct {
	Entry
	Seconds     time.Duration // length of the entry
	Share       float64       // of the node; 0 when it is unknown
	NodeSeconds time.Duration // of the whole node: its share of Seconds; 0 when the share is unknown
	Cost        string        // decimal, or UnknownPrice
}

// dayLayout names a partition: the UTC day on which an entry ended.
const dayLayout = "2006-01-02"

// NewRow computes the row of an entry.
func NewRow(e Entry) Row {
	row := NewUncostedRow(e)
	row.Cost = UnknownPrice
	if cost, ok := e.Cost(); ok {
		row.Cost = amount(cost, rowDecimals)
	}
	return row
}

// NewUncostedRow is NewRow without Cost, which takes longer than all else: a report adds up
// what is exact, and does not read it.
func NewUncostedRow(e Entry) Row {
	row := Row{Entry: e}
	row.From, row.To = e.From.UTC().Truncate(Tick), e.To.UTC().Truncate(Tick)
	row.Seconds = time.Duration(e.length()) * Tick
	if part, of, ok := e.share(); ok {
		row.Share = float64(part) / float64(of)
		row.NodeSeconds = portion(row.Seconds, part, of)
	}
	return row
}

// portion is d * part / of, rounded down to a tick, for a part that is no larger
// than the whole.
func portion(d time.Duration, part, of int64) time.Duration {
	hi, lo := bits.Mul64(uint64(d/Tick), uint64(part))
	ticks, _ := bits.Div64(hi, lo, uint64(of))
	return time.Duration(ticks) * Tick
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
