package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
)

// PushRecord is what one push has started through one rule. Its row makes a delivery
// that comes again do nothing.
type PushRecord struct {
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
	FileJob     string // hash of the job that reads the file
	Facts       string // what makes jobs of the file
	HasFileJobs bool   // the jobs of the file are among Jobs, and are to be sent
}

// pushPartition holds what a rule has started.
func pushPartition(rule string) string { return "start!" + idKey(rule) }

func encodePush(st *PushRecord) ([]byte, error) {
	e := newEntity(pushPartition(st.Rule), idKey(st.Key))
	e.text("Rule", st.Rule)
	e.text("Key", st.Key)
	e.text("Repository", st.Repository)
	e.text("Ref", st.Ref)
	e.text("Before", st.Before)
	e.text("Commit", st.Commit)
	e.text("Jobs", strings.Join(st.Jobs, " "))
	e.time("At", st.At)
	e.text("Reader", st.FileJob)
	if !e.long("Document", st.Facts) {
		return nil, fault.New(fault.Invalid, "", "the rule %q and what it needs of a push are too long to be kept; shorten the rule", st.Rule)
	}
	e.bool("Read", st.HasFileJobs)
	// Written also when they are false, so that a filter finds them.
	e.b = fmt.Appendf(e.b, `,"Sent":%t,"Superseded":%t`, st.Sent, st.Superseded)
	return e.end(), nil
}

func decodePush(raw []byte) (PushRecord, error) {
	var row struct {
		Rule, Key, Repository, Ref, Before, Commit, Jobs, Reader string
		longDocument
		At                     time.Time
		Sent, Superseded, Read bool
	}
	err := decode(raw, &row)
	return PushRecord{Rule: row.Rule, Key: row.Key, Repository: row.Repository, Ref: row.Ref, Before: row.Before, Commit: row.Commit, Jobs: strings.Fields(row.Jobs),
		At: row.At, Sent: row.Sent, Superseded: row.Superseded, FileJob: row.Reader, Facts: row.text(), HasFileJobs: row.Read}, err
}

// BeginPush notes that a push is about to start jobs. When it was noted
// before, what stands there is returned.
func (s *Store) BeginPush(ctx context.Context, st PushRecord) (PushRecord, error) {
	row, err := encodePush(&st)
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
	return s.Push(ctx, st.Rule, st.Key)
}

// Push reads what a push has started. NotFound: nothing yet.
func (s *Store) Push(ctx context.Context, rule, key string) (PushRecord, error) {
	raw, _, err := s.get(ctx, "read what a push has started", s.rules, pushPartition(rule), idKey(key))
	if err != nil {
		return PushRecord{}, err
	}
	return decodePush(raw)
}

// pushRounds is how often a change of a push's row begins anew because somebody
// else was first: a newer push, or a node's report that comes twice.
const pushRounds = 10

// ChangePush changes what has become of a push. change gets the row as it stands,
// again whenever somebody else was first, and reports whether it is to be written.
// The row is returned as it stands then. NotFound: there is no such push.
func (s *Store) ChangePush(ctx context.Context, rule, key string, change func(*PushRecord) bool) (PushRecord, error) {
	for range pushRounds {
		raw, version, err := s.get(ctx, "read what a push has started", s.rules, pushPartition(rule), idKey(key))
		if err != nil {
			return PushRecord{}, err
		}
		st, err := decodePush(raw)
		if err != nil || !change(&st) {
			return st, err
		}
		row, err := encodePush(&st)
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
	return PushRecord{}, fault.New(fault.Throttled, "", "others changed what the push has started again and again; try again")
}

// PushesOfRef lists what pushes to one ref have started and nothing has
// superseded.
func (s *Store) PushesOfRef(ctx context.Context, rule, repository, ref string) ([]PushRecord, error) {
	var all []PushRecord
	filter := fmt.Sprintf("PartitionKey eq '%s' and Repository eq '%s' and Ref eq '%s' and Superseded eq false",
		literal(pushPartition(rule)), literal(repository), literal(ref))
	_, err := s.scan(ctx, "list what pushes have started", s.rules, query{filter: filter}, func(raw []byte) error {
		st, err := decodePush(raw)
		all = append(all, st)
		return err
	})
	return all, err
}

// CountPushes counts the pushes that a rule has let start jobs since a time, up
// to a limit.
func (s *Store) CountPushes(ctx context.Context, rule string, since time.Time, limit int) (int, error) {
	n := 0
	q := query{filter: fmt.Sprintf("PartitionKey eq '%s' and At ge datetime'%s'", literal(pushPartition(rule)), since.UTC().Format(timeLayout)), fields: "PartitionKey,RowKey", limit: limit}
	_, err := s.scan(ctx, "count pushes", s.rules, q, func([]byte) error { n++; return nil })
	return n, err
}

// DropPushes forgets, of all rules, what was started before a time, at most
// limit of it.
func (s *Store) DropPushes(ctx context.Context, before time.Time, limit int) error {
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

// StatusWatch is a job whose state somebody is to be told, or that is to be
// cancelled as soon as it is known.
type StatusWatch struct {
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

// watchPartition holds all jobs that are followed: few at any time, so that
// reading them all costs one request.
const watchPartition = "follow"

func watchKey(job string, cancel bool) string {
	if cancel {
		return "cancel!" + idKey(job)
	}
	return "status!" + idKey(job)
}

// PutStatusWatch writes what is known of a job that is followed.
func (s *Store) PutStatusWatch(ctx context.Context, f StatusWatch) error {
	return s.putRow(ctx, "follow a job", encodeStatusWatch(&f))
}

func encodeStatusWatch(f *StatusWatch) []byte {
	e := newEntity(watchPartition, watchKey(f.Job, f.Cancel))
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
	return e.end()
}

// DeleteStatusWatch forgets a job that was followed; one that was not is no error.
func (s *Store) DeleteStatusWatch(ctx context.Context, f StatusWatch) error {
	err := s.deleteRow(ctx, "follow a job no longer", watchPartition, watchKey(f.Job, f.Cancel))
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// StatusWatches lists all jobs that are followed.
func (s *Store) StatusWatches(ctx context.Context) ([]StatusWatch, error) {
	var all []StatusWatch
	_, err := s.scan(ctx, "list the jobs that are followed", s.rules, query{filter: between(watchPartition, "", "~")}, func(raw []byte) error {
		f, err := decodeStatusWatch(raw)
		all = append(all, f)
		return err
	})
	return all, err
}

func decodeStatusWatch(raw []byte) (StatusWatch, error) {
	var f StatusWatch
	err := decode(raw, &f)
	f.Next = when(f.Next)
	return f, err
}
