package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// PushRecord is what one push has started according to one rule. Because of its row,
// a delivery that comes again does nothing.
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

// pushPartition holds the records of one rule.
func pushPartition(rule string) string { return "start!" + idKey(rule) }

func encodePush(p *PushRecord) ([]byte, error) {
	e := table.NewRow(pushPartition(p.Rule), idKey(p.Key))
	e.Text("Rule", p.Rule)
	e.Text("Key", p.Key)
	e.Text("Repository", p.Repository)
	e.Text("Ref", p.Ref)
	e.Text("Before", p.Before)
	e.Text("Commit", p.Commit)
	e.Text("Jobs", strings.Join(p.Jobs, " "))
	e.Time("At", p.At)
	e.Text("Reader", p.FileJob)
	if !e.Long("Document", p.Facts) {
		return nil, fault.New(
			fault.Invalid, "", "the rule %q and what it needs of a push are too long to be kept; shorten the rule", p.Rule,
		)
	}
	e.Bool("Read", p.HasFileJobs)
	e.Flag("Sent", p.Sent)
	e.Flag("Superseded", p.Superseded)
	return e.JSON(), nil
}

func decodePush(raw []byte) (PushRecord, error) {
	var row struct {
		Rule, Key, Repository, Ref, Before, Commit, Jobs, Reader, Document string
		At                                                                 time.Time
		Sent, Superseded, Read                                             bool
	}
	if err := table.Decode(raw, &row); err != nil {
		return PushRecord{}, err
	}
	facts, err := table.LongText(raw, "Document", row.Document)
	return PushRecord{
		Rule:        row.Rule,
		Key:         row.Key,
		Repository:  row.Repository,
		Ref:         row.Ref,
		Before:      row.Before,
		Commit:      row.Commit,
		Jobs:        strings.Fields(row.Jobs),
		At:          row.At,
		Sent:        row.Sent,
		Superseded:  row.Superseded,
		FileJob:     row.Reader,
		Facts:       facts,
		HasFileJobs: row.Read,
	}, err
}

// BeginPush notes that a push is about to start jobs. If it was noted before, the
// record that is there is returned.
func (p *Pushes) BeginPush(ctx context.Context, record PushRecord) (PushRecord, error) {
	row, err := encodePush(&record)
	if err != nil {
		return record, err
	}
	err = p.table.Insert(ctx, "note a push", row)
	if fault.CodeOf(err) != fault.Conflict {
		return record, err
	}
	return p.Push(ctx, record.Rule, record.Key)
}

// Push reads what a push has started. NotFound: nothing yet.
func (p *Pushes) Push(ctx context.Context, rule, key string) (PushRecord, error) {
	record, _, err := p.readPush(ctx, rule, key)
	return record, err
}

func (p *Pushes) readPush(ctx context.Context, rule, key string) (PushRecord, table.ETag, error) {
	raw, etag, err := p.table.Get(ctx, "read what a push has started", pushPartition(rule), idKey(key))
	if err != nil {
		return PushRecord{}, "", err
	}
	record, err := decodePush(raw)
	return record, etag, err
}

// pushRounds is how often a change of a push's record begins again because somebody
// else was first: a newer push, or a node's report that comes twice.
const pushRounds = 10

// ChangePush changes the record of a push. change gets the record as it is, again
// whenever somebody else was first, and reports whether it is to be written. ChangePush
// returns the record as it is then. NotFound: there is no such push.
func (p *Pushes) ChangePush(ctx context.Context, rule, key string, change func(*PushRecord) bool) (PushRecord, error) {
	for range pushRounds {
		record, etag, err := p.readPush(ctx, rule, key)
		if err != nil {
			return PushRecord{}, err
		}
		if !change(&record) {
			return record, nil
		}
		row, err := encodePush(&record)
		if err != nil {
			return record, err
		}
		err = p.table.Replace(ctx, "note a push", row, etag)
		if fault.CodeOf(err) != fault.Conflict {
			return record, err
		}
	}
	return PushRecord{}, fault.New(fault.Throttled, "", "others changed what the push has started again and again; try again")
}

// PushesOfRef lists what pushes to one ref have started and no newer push has
// superseded.
func (p *Pushes) PushesOfRef(ctx context.Context, rule, repository, ref string) ([]PushRecord, error) {
	q := table.Query{Filter: fmt.Sprintf("PartitionKey eq '%s' and Repository eq '%s' and Ref eq '%s' and Superseded eq false",
		table.Quote(pushPartition(rule)), table.Quote(repository), table.Quote(ref))}
	return readAll(ctx, p.table, "list what pushes have started", q, decodePush)
}

// CountPushes counts the pushes for which a rule has started jobs since a time, up to
// a limit.
func (p *Pushes) CountPushes(ctx context.Context, rule string, since time.Time, limit int) (int, error) {
	n := 0
	partition, from := table.Quote(pushPartition(rule)), since.UTC().Format(table.TimeLayout)
	q := table.Query{
		Filter: fmt.Sprintf("PartitionKey eq '%s' and At ge datetime'%s'", partition, from),
		Fields: "PartitionKey,RowKey",
		Limit:  limit,
	}
	_, err := p.table.Scan(ctx, "count pushes", q, func([]byte) error { n++; return nil })
	return n, err
}

// DropPushes forgets, of all rules, what was started before a time, at most limit
// records.
func (p *Pushes) DropPushes(ctx context.Context, before time.Time, limit int) error {
	type key struct{ PartitionKey, RowKey string }
	to := before.UTC().Format(table.TimeLayout)
	q := table.Query{
		Filter: fmt.Sprintf("PartitionKey ge 'start!' and PartitionKey lt 'start\"' and At lt datetime'%s'", to),
		Fields: "PartitionKey,RowKey",
		Limit:  limit,
	}
	old, err := readAll(ctx, p.table, "look for old pushes", q, func(raw []byte) (k key, err error) {
		err = table.Decode(raw, &k)
		return k, err
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		err := p.table.Delete(ctx, "forget an old push", k.PartitionKey, k.RowKey, table.Any)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
	}
	return nil
}
