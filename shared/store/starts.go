package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
)

// Start is what one push has started through one rule. Its row makes a delivery
// that comes again do nothing.
type Start struct {
	Rule       string
	Key        string // of the delivery and its ref
	Repository string
	Ref        string
	Before     string
	Commit     string
	Jobs       []string
	At         time.Time // when the push came first
	Sent       bool      // the jobs are on their queue, and all that follows is done
	Superseded bool      // a newer push to the same ref has cancelled the jobs

	// Of a push whose jobs stand in a file of the repository.
	Reader string // hash of the job that reads the file
	Facts  string // what makes jobs of the file
	Read   bool   // the jobs of the file are among Jobs, and are to be sent
}

// startPartition holds what a rule has started.
func startPartition(rule string) string { return "start!" + idKey(rule) }

func encodeStart(st *Start) ([]byte, error) {
	e := newEntity(startPartition(st.Rule), idKey(st.Key))
	e.text("Rule", st.Rule)
	e.text("Key", st.Key)
	e.text("Repository", st.Repository)
	e.text("Ref", st.Ref)
	e.text("Before", st.Before)
	e.text("Commit", st.Commit)
	e.text("Jobs", strings.Join(st.Jobs, " "))
	e.time("At", st.At)
	e.text("Reader", st.Reader)
	if !e.long("Document", st.Facts) {
		return nil, fault.New(fault.Invalid, "", "the rule %q and what it needs of a push are too long to be kept; shorten the rule", st.Rule)
	}
	e.bool("Read", st.Read)
	// Written also when they are false, so that a filter finds them.
	e.b = fmt.Appendf(e.b, `,"Sent":%t,"Superseded":%t`, st.Sent, st.Superseded)
	return e.end(), nil
}

func decodeStart(raw []byte) (Start, error) {
	var row struct {
		Rule, Key, Repository, Ref, Before, Commit, Jobs, Reader string
		longDocument
		At                     time.Time
		Sent, Superseded, Read bool
	}
	err := decode(raw, &row)
	return Start{Rule: row.Rule, Key: row.Key, Repository: row.Repository, Ref: row.Ref, Before: row.Before, Commit: row.Commit, Jobs: strings.Fields(row.Jobs),
		At: row.At, Sent: row.Sent, Superseded: row.Superseded, Reader: row.Reader, Facts: row.text(), Read: row.Read}, err
}

// BeginStart notes that a push is about to start jobs. When it was noted
// before, what stands there is returned.
func (s *Store) BeginStart(ctx context.Context, st Start) (Start, error) {
	row, err := encodeStart(&st)
	if err != nil {
		return st, err
	}
	err = s.call(ctx, "note a push", func(ctx context.Context) error {
		_, err := s.rules.AddEntity(ctx, row, nil)
		return err
	})
	if fault.CodeOf(err) != fault.Conflict {
		return st, err
	}
	return s.Start(ctx, st.Rule, st.Key)
}

// Start reads what a push has started. NotFound: nothing yet.
func (s *Store) Start(ctx context.Context, rule, key string) (Start, error) {
	raw, _, err := s.get(ctx, "read what a push has started", s.rules, startPartition(rule), idKey(key))
	if err != nil {
		return Start{}, err
	}
	return decodeStart(raw)
}

// startRounds is how often a change of a push's row begins anew because somebody
// else was first: a newer push, or a node's report that comes twice.
const startRounds = 10

// ChangeStart changes what has become of a push. change gets the row as it stands,
// again whenever somebody else was first, and reports whether it is to be written.
// The row is returned as it stands then. NotFound: there is no such push.
func (s *Store) ChangeStart(ctx context.Context, rule, key string, change func(*Start) bool) (Start, error) {
	for range startRounds {
		raw, version, err := s.get(ctx, "read what a push has started", s.rules, startPartition(rule), idKey(key))
		if err != nil {
			return Start{}, err
		}
		st, err := decodeStart(raw)
		if err != nil || !change(&st) {
			return st, err
		}
		row, err := encodeStart(&st)
		if err != nil {
			return st, err
		}
		err = s.call(ctx, "note a push", func(ctx context.Context) error {
			_, err := s.rules.UpdateEntity(ctx, row, &aztables.UpdateEntityOptions{IfMatch: &version, UpdateMode: aztables.UpdateModeReplace})
			return err
		})
		if fault.CodeOf(err) != fault.Conflict {
			return st, err
		}
	}
	return Start{}, fault.New(fault.Throttled, "", "others changed what the push has started again and again; try again")
}

// StartsOfRef lists what pushes to one ref have started and nothing has
// superseded.
func (s *Store) StartsOfRef(ctx context.Context, rule, repository, ref string) ([]Start, error) {
	var all []Start
	filter := fmt.Sprintf("PartitionKey eq '%s' and Repository eq '%s' and Ref eq '%s' and Superseded eq false",
		literal(startPartition(rule)), literal(repository), literal(ref))
	_, err := s.scan(ctx, "list what pushes have started", s.rules, query{filter: filter}, func(raw []byte) error {
		st, err := decodeStart(raw)
		all = append(all, st)
		return err
	})
	return all, err
}

// StartsSince counts the pushes that a rule has let start jobs since a time, up
// to a limit.
func (s *Store) StartsSince(ctx context.Context, rule string, since time.Time, limit int) (int, error) {
	n := 0
	q := query{filter: fmt.Sprintf("PartitionKey eq '%s' and At ge datetime'%s'", literal(startPartition(rule)), since.UTC().Format(timeLayout)), fields: "PartitionKey,RowKey", limit: limit}
	_, err := s.scan(ctx, "count pushes", s.rules, q, func([]byte) error { n++; return nil })
	return n, err
}

// DropStarts forgets, of all rules, what was started before a time, at most
// limit of it.
func (s *Store) DropStarts(ctx context.Context, before time.Time, limit int) error {
	type key struct{ PartitionKey, RowKey string }
	var old []key
	q := query{filter: fmt.Sprintf("PartitionKey ge 'start!' and PartitionKey lt 'start\"' and At lt datetime'%s'", before.UTC().Format(timeLayout)), fields: "PartitionKey,RowKey", limit: limit}
	_, err := s.scan(ctx, "look for old pushes", s.rules, q, func(raw []byte) error {
		var k key
		err := decode(raw, &k)
		old = append(old, k)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := s.deleteRow(ctx, "forget an old push", k.PartitionKey, k.RowKey); err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
	}
	return nil
}

// Follow is a job whose state somebody is to be told, or that is to be
// cancelled as soon as it is known.
type Follow struct {
	Job    string
	Cancel bool // true: only to be cancelled

	// Where the state goes.
	Rule       string
	Repository string
	Commit     string
	Context    string // what the status is called

	Sent  string    // what was told last
	Tries int       // in vain, since then
	Next  time.Time // not before
	At    time.Time // since when the job is followed
}

// followPartition holds all jobs that are followed: few at any time, so that
// reading them all costs one request.
const followPartition = "follow"

func followKey(job string, cancel bool) string {
	if cancel {
		return "cancel!" + idKey(job)
	}
	return "status!" + idKey(job)
}

// PutFollow writes what is known of a job that is followed.
func (s *Store) PutFollow(ctx context.Context, f Follow) error {
	e := newEntity(followPartition, followKey(f.Job, f.Cancel))
	e.text("Job", f.Job)
	e.bool("Cancel", f.Cancel)
	e.text("Rule", f.Rule)
	e.text("Repository", f.Repository)
	e.text("Commit", f.Commit)
	e.text("Context", f.Context)
	e.text("Sent", f.Sent)
	e.int("Tries", f.Tries)
	e.time("Next", f.Next)
	e.time("At", f.At)
	return s.putRow(ctx, "follow a job", e.end())
}

// Unfollow forgets a job that was followed; one that was not is no error.
func (s *Store) Unfollow(ctx context.Context, f Follow) error {
	err := s.deleteRow(ctx, "follow a job no longer", followPartition, followKey(f.Job, f.Cancel))
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// Followed lists all jobs that are followed.
func (s *Store) Followed(ctx context.Context) ([]Follow, error) {
	var all []Follow
	_, err := s.scan(ctx, "list the jobs that are followed", s.rules, query{filter: between(followPartition, "", "~")}, func(raw []byte) error {
		var f Follow
		err := decode(raw, &f)
		f.Next = when(f.Next)
		all = append(all, f)
		return err
	})
	return all, err
}
