package disk

import "sync/atomic"

// Stats counts what stores have done.
type Stats struct {
	Updates int64 // calls of Update that were carried out
	Commits int64 // groups of them, each of which was synced once
	Syncs   int64 // calls that wait until the disk has what was written
	Bytes   int64 // written to the files
}

// counts are those of all stores of this process.
var counts struct{ updates, commits, syncs, bytes atomic.Int64 }

// Totals returns what all stores of this process have done since it began.
func Totals() Stats {
	return Stats{counts.updates.Load(), counts.commits.Load(), counts.syncs.Load(), counts.bytes.Load()}
}

// countWrite counts bytes that were written, and syncs of them.
func countWrite(bytes int64, syncs int64) {
	counts.bytes.Add(bytes)
	counts.syncs.Add(syncs)
}
