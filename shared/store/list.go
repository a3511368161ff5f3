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
)

// PoolNames lists the names of all pools, in their order. It hops from partition
// to partition: one row of each is read, however many jobs a pool has, and
// there is no list beside the pools that could disagree with them. A partition
// of which only remains are left (see DeletePool) is listed too; Load says
// NotFound for it.
func (s *Store) PoolNames(ctx context.Context) ([]string, error) {
	var names []string
	q := query{fields: "PartitionKey", limit: 1}
	for {
		last := ""
		if len(names) > 0 {
			last = names[len(names)-1]
		}
		found := false
		q.filter = fmt.Sprintf("PartitionKey gt '%s'", literal(last))
		_, err := s.scan(ctx, "list the pools", s.pools, q, func(raw []byte) error {
			var row struct{ PartitionKey string }
			err := decode(raw, &row)
			if row.PartitionKey > last && !found {
				names, found = append(names, row.PartitionKey), true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if !found {
			return names, nil
		}
	}
}

// JobFilter says which jobs to list; what is empty does not matter.
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
		s += fmt.Sprintf(" and Team eq '%s'", literal(f.Team))
	}
	if f.User != "" {
		s += fmt.Sprintf(" and User eq '%s'", literal(f.User))
	}
	if f.State != "" {
		s += fmt.Sprintf(" and State eq '%s'", literal(string(f.State)))
	}
	return s
}

// within narrows a range of keys down to the members of the sweep, if it is
// about one.
func (f JobFilter) within(key func(order string) string, from, to string) (string, string) {
	if f.Sweep == "" {
		return from, to
	}
	return max(from, key(f.Sweep)+"."), min(to, key(f.Sweep)+"/") // the character behind the point
}

const (
	// maxPage bounds what one call of Jobs returns.
	maxPage = 1000
	// maxFilter bounds a filter's value; the service bounds the whole query.
	maxFilter = 256
	// maxContinuation is longer than any continuation this package makes.
	maxContinuation = 2048
)

// place is where a list goes on. Live jobs are listed down from Below, then
// finished ones, whose keys rise as they grow older, from above After.
type place struct {
	Below string `json:"b,omitempty"` // order; "" = from the newest
	Done  bool   `json:"d,omitempty"` // the live ones are through
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
// newest first, at most limit (1 to 1000) of them. The text it returns asks
// for what follows; it is "" at the end. A page may hold fewer jobs than asked
// for, even none, and not be the last. No job that stays in the filter is
// missed; one that finishes between two pages may be in both.
func (s *Store) Jobs(ctx context.Context, name string, filter JobFilter, limit int, cont string) ([]*pool.Job, string, error) {
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
		live, rest, err := s.liveJobs(ctx, name, filter, limit, at.Below)
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
	done, next, err := s.doneJobs(ctx, name, filter, limit-len(jobs), at.After)
	return append(jobs, done...), next, err
}

// liveJobs lists live jobs newest first. Their keys rise with their age, and a
// range cannot be read backwards: so the keys come first, then the rows of the
// page. It also reports whether there are more.
func (s *Store) liveJobs(ctx context.Context, name string, filter JobFilter, limit int, below string) ([]*pool.Job, bool, error) {
	to := "job\"" // behind every live job
	if below != "" {
		to = pool.JobKey(below)
	}
	var keys []string
	from, to := filter.within(pool.JobKey, pool.JobKey(""), to)
	q := query{filter: between(name, from, to) + filter.odata(), fields: "PartitionKey,RowKey"}
	_, err := s.scan(ctx, "list jobs of pool "+name, s.pools, q, func(raw []byte) error {
		var row struct{ RowKey string }
		err := decode(raw, &row)
		keys = append(keys, row.RowKey)
		return err
	})
	if err != nil || len(keys) == 0 {
		return nil, false, err
	}
	first := max(len(keys)-limit, 0)
	var jobs []*pool.Job
	q = query{filter: between(name, keys[first], keys[len(keys)-1]+"!") + filter.odata()}
	_, err = s.scan(ctx, "list jobs of pool "+name, s.pools, q, func(raw []byte) error {
		j, err := decodeJob(raw)
		jobs = append(jobs, j)
		return err
	})
	slices.Reverse(jobs)
	if len(jobs) == 0 {
		// All of the page have ended meanwhile: they are among the finished.
		if err == nil && first > 0 {
			return s.liveJobs(ctx, name, filter, limit, strings.TrimPrefix(keys[first], pool.JobKey("")))
		}
		return nil, false, err
	}
	return jobs, first > 0, err
}

// doneJobs lists finished jobs newest first, with the place that follows.
func (s *Store) doneJobs(ctx context.Context, name string, filter JobFilter, limit int, after string) ([]*pool.Job, string, error) {
	from := pool.DoneFrom
	if after != "" {
		from = after + "!" // the first key behind it
	}
	from, to := filter.within(pool.DoneKey, from, pool.DoneTo)
	var jobs []*pool.Job
	q := query{filter: between(name, from, to) + filter.odata(), limit: limit}
	_, err := s.scan(ctx, "list finished jobs of pool "+name, s.pools, q, func(raw []byte) error {
		j, err := decodeJob(raw)
		jobs = append(jobs, j)
		return err
	})
	if err != nil || len(jobs) < limit {
		return jobs, "", err
	}
	return jobs, place{Done: true, After: pool.DoneKey(jobs[len(jobs)-1].Order)}.String(), nil
}
