package pool

import (
	"fmt"
	"strings"
)

// Row keys of a pool's partition. Table Storage sorts them as strings:
// `done!` comes before `head`, so that one range from `head` to keysEnd reads
// everything live.
const (
	HeadKey    = "head"
	donePrefix = "done!"
	editPrefix = "edit!"
	jobPrefix  = "job!"
	LogPrefix  = "log!"
	nodePrefix = "node!"

	// LiveFrom and LiveTo bound the range of the live rows: LiveFrom <= key < LiveTo.
	LiveFrom = HeadKey
	LiveTo   = "node\""
	// EditFrom and EditTo bound the range of the ring of edits and the head behind
	// it, with nothing else between them: one query reads both.
	EditFrom = editPrefix
	EditTo   = HeadKey + "!"
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

// Edits is how many of its last transactions a pool remembers the keys of. A
// writer that falls further behind reads everything anew; a row of the ring has a
// few hundred bytes, so there may be many.
const Edits = 256

// EditKey is the key of the row of the ring that tells of one transaction.
func EditKey(seq int64) string { return fmt.Sprintf("%s%03d", editPrefix, seq%Edits) }

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
