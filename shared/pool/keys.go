package pool

import (
	"fmt"
	"slices"
	"strings"
)

// Several processes may drive one pool. A process that loses a race reads from the
// change log which rows the others changed, reads those rows, and goes on from there:
// it does not read a line of a hundred thousand jobs again.

// Row keys of a pool's partition. Table Storage sorts them as strings: `done!` and
// `edit!` come before `head`, so that one range from LiveFrom to LiveTo reads
// everything live.
const (
	HeadKey         = "head"
	donePrefix      = "done!"
	changeLogPrefix = "edit!"
	jobPrefix       = "job!"
	LogPrefix       = "log!"
	nodePrefix      = "node!"

	// LiveFrom and LiveTo bound the range of the live rows: LiveFrom <= key < LiveTo.
	LiveFrom = HeadKey
	LiveTo   = "node\""
	// ChangeLogFrom and ChangeLogTo bound the range of the change log and the head after
	// it, with nothing else between them: one query reads both.
	ChangeLogFrom = changeLogPrefix
	ChangeLogTo   = HeadKey + "!"
	// DoneFrom and DoneTo bound the range of the finished jobs, newest first.
	DoneFrom = donePrefix
	DoneTo   = "done\""
)

// crockford is the alphabet of a ULID, in its order.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// JobKey is the key of a live job.
func JobKey(order string) string { return jobPrefix + order }

// NodeKey is the key of a node.
func NodeKey(vmid string) string { return nodePrefix + vmid }

// LogKey is the key of a row of ledger facts.
func LogKey(seq int64) string { return fmt.Sprintf("%s%019d", LogPrefix, seq) }

// LogPageKey is the key of a row that has several Logs; seq is that of the first.
func LogPageKey(seq int64) string { return LogKey(seq) + "+" }

// ChangeLogLength is the number of rows of the change log: a pool remembers the changed
// keys of so many transactions, the last ones. A writer that is further back reads
// everything again. A row has a few hundred bytes, so there may be many.
const ChangeLogLength = 256

// ChangeLogKey is the key of the row of the change log that belongs to one transaction.
func ChangeLogKey(seq int64) string {
	return fmt.Sprintf("%s%03d", changeLogPrefix, seq%ChangeLogLength)
}

// DoneKey is the key of a finished job: its order mirrored, so that the newest
// comes first.
func DoneKey(order string) string {
	mirrored := strings.Map(func(r rune) rune {
		i := strings.IndexRune(crockford, r)
		if i < 0 {
			return r
		}
		return rune(crockford[len(crockford)-1-i])
	}, order)
	return donePrefix + mirrored
}

// OrderOf is the order of the live job with this key; false: it is not the key of a job.
func OrderOf(key string) (order string, isJob bool) { return strings.CutPrefix(key, jobPrefix) }

// VMIDOf is the VMID of the node with this key; false: it is not the key of a node.
func VMIDOf(key string) (vmid string, isNode bool) { return strings.CutPrefix(key, nodePrefix) }

// ChangedKeys lists the keys of the live rows that a transaction changes, for the
// change log. A job that came and ended in the same transaction is among them, so that
// a reader of the log learns that it has ended.
func ChangedKeys(changes []Change) []string {
	var keys []string
	for _, c := range changes {
		switch {
		case strings.HasPrefix(c.Key, jobPrefix), strings.HasPrefix(c.Key, nodePrefix):
			keys = append(keys, c.Key)
		case strings.HasPrefix(c.Key, donePrefix):
			if j, ok := c.Value.(*Job); ok {
				keys = append(keys, JobKey(j.Order))
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
