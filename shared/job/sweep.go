package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dsvmpools/shared/document"
)

// Sweep makes one document stand for many jobs, its members: one for each row of
// List, for each combination of the values of Grid, or for each number below
// Count. Exactly one of the three is set.
type Sweep struct {
	Grid     map[string][]string `json:"grid,omitempty"`
	List     []map[string]string `json:"list,omitempty"`
	Count    int                 `json:"count,omitempty"`
	Parallel int                 `json:"parallel,omitempty"` // members that may run at once; 0 = as many as fit
	MaxFails int                 `json:"maxFails,omitempty"` // members that may fail before no more begin; 0 = not said
}

const (
	maxMembers = 100_000
	// maxSweepID leaves room for the index in the id of a member.
	maxSweepID = 90
	// indexDigits is the width of an index in a member's order.
	indexDigits = 5
)

// Members is the number of members.
func (s *Sweep) Members() int {
	switch {
	case s.Count > 0:
		return s.Count
	case len(s.List) > 0:
		return len(s.List)
	}
	n := 1
	for _, values := range s.Grid {
		if n *= len(values); n > maxMembers {
			return n
		}
	}
	return n
}

// Parameters are those of one member. In a grid the names are sorted, and the
// last of them changes fastest.
func (s *Sweep) Parameters(index int) map[string]string {
	if len(s.List) > 0 {
		return s.List[index]
	}
	names := slices.Sorted(maps.Keys(s.Grid))
	out := make(map[string]string, len(names))
	for _, name := range slices.Backward(names) {
		values := s.Grid[name]
		out[name] = values[index%len(values)]
		index /= len(values)
	}
	return out
}

// Member is the document of one member of a sweep.
func (s Spec) Member(index int) Spec {
	m := s
	m.ID, m.Env = MemberID(s.ID, index), maps.Clone(s.Env)
	m.Sweep, m.After, m.Index = nil, nil, &index
	for name, value := range s.Sweep.Parameters(index) {
		if m.Env == nil {
			m.Env = map[string]string{}
		}
		m.Env[name] = value
	}
	return m
}

// MemberID is the id of a member of a sweep.
func MemberID(sweep string, index int) string { return sweep + "." + strconv.Itoa(index) }

// MemberOf takes an id apart that a member of a sweep may have.
func MemberOf(id string) (sweep string, index int, ok bool) {
	at := strings.LastIndexByte(id, '.')
	if at < 1 {
		return "", 0, false
	}
	index, err := strconv.Atoi(id[at+1:])
	if err != nil || index < 0 || index >= maxMembers || strconv.Itoa(index) != id[at+1:] {
		return "", 0, false
	}
	return id[:at], index, true
}

// MemberOrder is the order of a member: after that of its sweep, and before
// that of any other job.
func MemberOrder(sweep string, index int) string {
	return fmt.Sprintf("%s.%0*d", sweep, indexDigits, index)
}

// SweepOrder is the order of a member's sweep, and the member's index.
func SweepOrder(order string) (sweep string, index int, ok bool) {
	sweep, digits, ok := strings.Cut(order, ".")
	if !ok || len(digits) != indexDigits {
		return "", 0, false
	}
	index, err := strconv.Atoi(digits)
	return sweep, index, err == nil && index >= 0
}

// readSweep reads the field `sweep`; nil when it is not there.
func readSweep(r *document.Reader) *Sweep {
	sub := r.Sub("sweep", `{"count": 10}`, "grid", "list", "count", "parallel", "maxFails")
	if sub == nil {
		return nil
	}
	s := &Sweep{Count: sub.Int("count", 0, 1, maxMembers), Parallel: sub.Int("parallel", 0, 1, maxMembers),
		MaxFails: sub.Int("maxFails", 0, 1, maxMembers)}
	if grid := sub.Any("grid", `{"LR": ["0.1", "0.01"]}`); grid != nil {
		s.Grid = map[string][]string{}
		for _, name := range grid.Names() {
			s.Grid[name] = grid.Scalars(name, `["0.1", "0.01"]`)
		}
	}
	for _, row := range sub.Objects("list", `[{"LR": "0.1"}]`) {
		params := map[string]string{}
		for _, name := range row.Names() {
			params[name] = row.Scalar(name, "0.1")
		}
		s.List = append(s.List, params)
	}
	return s
}

func (s Spec) validateSweep() error {
	w := s.Sweep
	if w == nil {
		return nil
	}
	kinds := 0
	for _, there := range []bool{w.Grid != nil, w.List != nil, w.Count != 0} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return invalid("sweep", "`sweep` has %d of grid, list and count; give exactly one of them", kinds)
	case len(s.ID) > maxSweepID:
		return invalid("id", "`id` has %d characters; a sweep's has at most %d, since those of its members are longer", len(s.ID),
			maxSweepID)
	case w.Grid != nil && len(w.Grid) == 0:
		return invalid("sweep.grid", "`sweep.grid` is empty; name a parameter and its values, for example {\"LR\": [\"0.1\", \"0.01\"]}")
	case w.Parallel < 0 || w.Count < 0 || w.MaxFails < 0:
		return invalid("sweep", "`sweep` has a negative number; write 1 or more")
	}
	for name, values := range w.Grid {
		if len(values) == 0 {
			return invalid("sweep.grid."+document.Clip(name), "`sweep.grid.%s` has no values; give at least one, or remove it",
				document.Clip(name))
		}
	}
	if n := w.Members(); n > maxMembers {
		return invalid("sweep", "`sweep` has more than %d members; make several sweeps of it", maxMembers)
	}
	check := func(field string, params map[string]string) error {
		for _, name := range sorted(params) {
			at := field + "." + document.Clip(name)
			switch {
			case !envPattern.MatchString(name) || strings.HasPrefix(name, "DSVM_"):
				return invalid(at,
					"`%s` cannot be a parameter's name; a name has letters, digits and _, does not begin with a digit, nor with DSVM_",
					at)
			case s.Env[name] != "":
				return invalid(at, "`%s` is set by `env` as well; remove one of them", at)
			case s.Secrets[name] != "":
				return invalid(at, "`%s` is set by `secrets` as well; remove one of them", at)
			}
			if err := noNUL(at, params[name]); err != nil {
				return err
			}
		}
		return nil
	}
	for i, row := range w.List {
		if err := check(fmt.Sprintf("sweep.list[%d]", i), row); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Grid)) {
		for _, value := range w.Grid[name] {
			if err := check("sweep.grid", map[string]string{name: value}); err != nil {
				return err
			}
		}
	}
	return nil
}
