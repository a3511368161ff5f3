package pool

// Version names one version of a pool: of its head row, which every transaction
// replaces. The zero Version is that of a pool that is not there. Only the store
// makes versions; everybody else hands them back to it and compares them with Same.
type Version struct {
	Seq      int64
	Nonce    string // of the writer of this version
	ETag     string // of the head row, as the service last wrote it; "" = not known
	SpecHash string // fingerprint of the spec in the row
	Carried  string // what the row has besides the head; only the store reads it
	Index    string // names the index of finished jobs that is kept up to this version; "" = none
}

// IsZero reports whether there is no pool.
func (v Version) IsZero() bool { return v == Version{} }

// Same reports whether both are the same version of one pool. It does not look at
// the ETag, which a service may write in more than one way.
func (v Version) Same(other Version) bool { return v.Seq == other.Seq && v.Nonce == other.Nonce }

// Partition is what is live of a pool: its head, all nodes and all live jobs.
type Partition struct {
	Head  Head
	Nodes []*Node
	Jobs  []*Job  // oldest first
	Logs  []int64 // Seq of each Log that waits to be recorded, oldest first, as it was read
}

// JobSink takes the live jobs of a pool while it is read, so that their rows need not be in memory
// all at once.
type JobSink interface {
	Begin()                      // all jobs are read, from the beginning: forget those from before
	Put(jobs ...*Job)            // takes over some rows, in any order
	Drop(orders map[string]bool) // some that were put are gone, or come again
	Len() int                    // how many jobs there are
}

// Delta is what has changed in a pool since a version.
type Delta struct {
	Head  Head
	Nodes []*Node // rows as they are now
	Jobs  []*Job
	Gone  []string // keys of rows that are not there
	Ended []string // orders of the jobs that have ended since
}
