package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// JobFilter says which jobs to list. An empty field matches all.
type JobFilter struct {
	Team  string
	User  string
	State job.State
	// Sweep is the order of a sweep whose members to list; without it, members
	// are left out.
	Sweep string
}

func (f JobFilter) odata() string {
	s := ""
	if f.Sweep == "" {
		s += " and Kind ne '" + kindMember + "'"
	}
	if f.Team != "" {
		s += fmt.Sprintf(" and Team eq '%s'", table.Quote(f.Team))
	}
	if f.User != "" {
		s += fmt.Sprintf(" and User eq '%s'", table.Quote(f.User))
	}
	if f.State != "" {
		s += fmt.Sprintf(" and State eq '%s'", table.Quote(string(f.State)))
	}
	return s
}

// narrow makes a range of keys smaller: to the members of the sweep, if the filter
// has one.
func (f JobFilter) narrow(key func(order string) string, from, to string) (string, string) {
	if f.Sweep == "" {
		return from, to
	}
	return max(from, key(f.Sweep)+"."), min(to, key(f.Sweep)+"/") // the character after the point
}

const (
	// maxPage bounds what one call of Jobs returns.
	maxPage = 1000
	// maxFilter bounds a filter's value; the service bounds the whole query.
	maxFilter = 256
	// maxContinuation is longer than any continuation this package makes.
	maxContinuation = 2048
)

// place is where a list continues. Live jobs are listed down from Below, then
// finished ones, whose keys rise as they grow older, from above After.
type place struct {
	Below string `json:"b,omitempty"` // order; "" = from the newest
	Done  bool   `json:"d,omitempty"` // all live ones are listed
	After string `json:"a,omitempty"` // key of a finished job
}

func (p place) String() string {
	text, _ := json.Marshal(p) // strings and a bool can always be written
	return base64.RawURLEncoding.EncodeToString(text)
}

// parsePlace reads a continuation that a client sends back.
func parsePlace(text string) (place, error) {
	var p place
	if text == "" {
		return p, nil
	}
	bad := fault.New(fault.Invalid, "continue", "this is not a continuation of a list of jobs; start again without it")
	if len(text) > maxContinuation {
		return place{}, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return place{}, bad
	}
	after, isDone := strings.CutPrefix(p.After, pool.DoneFrom)
	if p.Below != "" && !isOrder(p.Below) || p.After != "" && !(isDone && isOrder(after)) {
		return place{}, bad
	}
	return p, nil
}

// Jobs lists jobs of a pool: the live ones and then the finished ones, each
// newest first, at most limit (1 to 1000) of them. cont is "" or the text that the
// call before has returned; that text is "" at the end. A page may have fewer jobs
// than asked for, even none, and not be the last. No job that stays in the filter is
// missed; one that finishes between two pages may be in both.
func (p *Pools) Jobs(ctx context.Context, name string, filter JobFilter, limit int, cont string) ([]*pool.Job, string, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, "", err
	}
	if len(filter.Team) > maxFilter || len(filter.User) > maxFilter || len(filter.State) > maxFilter {
		return nil, "", fault.New(fault.Invalid, "team", "the filter is longer than %d characters", maxFilter)
	}
	at, err := parsePlace(cont)
	if err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), maxPage)

	var jobs []*pool.Job
	if !at.Done && !filter.State.Final() {
		live, rest, err := p.liveJobs(ctx, name, filter, limit, at.Below)
		if err != nil {
			return nil, "", err
		}
		if rest {
			return live, place{Below: live[len(live)-1].Order}.String(), nil
		}
		jobs = live
	}
	if filter.State != "" && !filter.State.Final() {
		return jobs, "", nil
	}
	if len(jobs) == limit {
		return jobs, place{Done: true}.String(), nil
	}
	done, next, err := p.finishedJobs(ctx, name, filter, limit-len(jobs), at.After)
	return append(jobs, done...), next, err
}

// liveJobs lists live jobs newest first. Their keys rise with their age, and a
// range cannot be read backwards: so the keys come first, then the rows of the
// page. It also reports whether there are more.
func (p *Pools) liveJobs(ctx context.Context, name string, filter JobFilter, limit int, below string) ([]*pool.Job, bool, error) {
	to := "job\"" // after every live job
	if below != "" {
		to = pool.JobKey(below)
	}
	what := "list jobs of pool " + name
	from, to := filter.narrow(pool.JobKey, pool.JobKey(""), to)
	q := table.Query{Filter: table.Between(name, from, to) + filter.odata(), Fields: "PartitionKey,RowKey"}
	keys, err := readAll(ctx, p.table, what, q, table.DecodeKey)
	if err != nil || len(keys) == 0 {
		return nil, false, err
	}
	first := max(len(keys)-limit, 0)
	q = table.Query{Filter: table.Between(name, keys[first], keys[len(keys)-1]+"!") + filter.odata()}
	jobs, err := readAll(ctx, p.table, what, q, decodeJob)
	if err != nil {
		return nil, false, err
	}
	slices.Reverse(jobs)
	if len(jobs) == 0 {
		// All of the page have ended meanwhile: they are among the finished.
		if first > 0 {
			return p.liveJobs(ctx, name, filter, limit, strings.TrimPrefix(keys[first], pool.JobKey("")))
		}
		return nil, false, nil
	}
	return jobs, first > 0, nil
}

// finishedJobs lists finished jobs newest first, with the place that follows.
func (p *Pools) finishedJobs(ctx context.Context, name string, filter JobFilter, limit int, after string) ([]*pool.Job, string, error) {
	from := pool.DoneFrom
	if after != "" {
		from = after + "!" // the first key after it
	}
	from, to := filter.narrow(pool.DoneKey, from, pool.DoneTo)
	q := table.Query{Filter: table.Between(name, from, to) + filter.odata(), Limit: limit}
	jobs, err := readAll(ctx, p.table, "list finished jobs of pool "+name, q, decodeJob)
	if err != nil || len(jobs) < limit {
		return jobs, "", err
	}
	return jobs, place{Done: true, After: pool.DoneKey(jobs[len(jobs)-1].Order)}.String(), nil
}
