package tables

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// model is what a table should hold: a map, and nothing clever.
type model map[string]map[string]int // partition/row -> properties

// change is one write as the model sees it.
type change struct {
	kind      string // add, merge, replace, upsertMerge, upsertReplace, delete
	key       string
	props     map[string]int
	condition bool // true: with the ETag of a version; false: with none, or any
	stale     bool // the ETag is not the current one
}

// apply changes the model, or says with which code the service would refuse.
func (m model) apply(c change) string {
	old, there := m[c.key]
	upsert := strings.HasPrefix(c.kind, "upsert")
	switch {
	case c.kind == "add" && there:
		return "EntityAlreadyExists"
	case c.kind != "add" && !upsert && !there:
		return "ResourceNotFound"
	case c.condition && c.stale:
		return "UpdateConditionNotSatisfied"
	}
	if c.kind == "delete" {
		delete(m, c.key)
		return ""
	}
	props := maps.Clone(c.props)
	if strings.HasSuffix(strings.ToLower(c.kind), "merge") {
		for k, v := range old {
			if _, set := props[k]; !set {
				props[k] = v
			}
		}
	}
	m[c.key] = props
	return ""
}

func (m model) clone() model {
	out := model{}
	for k, v := range m {
		out[k] = maps.Clone(v)
	}
	return out
}

// differential drives a server and the model side by side.
type differential struct {
	t      *testing.T
	random *rand.Rand
	c      *aztables.Client
	model  model
	etags  map[string][]azcore.ETag // of each key, in order; also of rows that are gone
}

func (d *differential) change() (change, aztables.TransactionAction) {
	kinds := []string{"add", "merge", "replace", "upsertMerge", "upsertReplace", "delete"}
	types := []aztables.TransactionType{
		aztables.TransactionTypeAdd, aztables.TransactionTypeUpdateMerge, aztables.TransactionTypeUpdateReplace,
		aztables.TransactionTypeInsertMerge, aztables.TransactionTypeInsertReplace, aztables.TransactionTypeDelete,
	}
	i := d.random.IntN(len(kinds))
	c := change{kind: kinds[i], key: fmt.Sprintf("p%d/r%02d", d.random.IntN(3), d.random.IntN(12)), props: map[string]int{}}
	partition, rowKey, _ := strings.Cut(c.key, "/")
	var pairs []any
	for _, name := range []string{"A", "B", "C"} {
		if d.random.IntN(2) == 0 {
			c.props[name] = d.random.IntN(5)
			pairs = append(pairs, name, c.props[name])
		}
	}
	action := aztables.TransactionAction{ActionType: types[i], Entity: row(partition, rowKey, pairs...)}
	if known := d.etags[c.key]; i == 1 || i == 2 || i == 5 {
		action.IfMatch = ptr(azcore.ETagAny)
		if len(known) > 0 && d.random.IntN(2) == 0 {
			pick := d.random.IntN(len(known))
			if d.random.IntN(3) > 0 {
				pick = len(known) - 1
			}
			c.condition, c.stale, action.IfMatch = true, pick != len(known)-1, &known[pick]
		}
	}
	return c, action
}

// single sends one write outside a transaction and returns the code of refusal.
func (d *differential) single(c change, a aztables.TransactionAction) string {
	ctx := deadline(d.t)
	partition, rowKey, _ := strings.Cut(c.key, "/")
	mode := aztables.UpdateModeMerge
	if strings.HasSuffix(strings.ToLower(c.kind), "replace") {
		mode = aztables.UpdateModeReplace
	}
	var err error
	switch c.kind {
	case "add":
		_, err = d.c.AddEntity(ctx, a.Entity, nil)
	case "merge", "replace":
		_, err = d.c.UpdateEntity(ctx, a.Entity, &aztables.UpdateEntityOptions{IfMatch: a.IfMatch, UpdateMode: mode})
	case "delete":
		_, err = d.c.DeleteEntity(ctx, partition, rowKey, &aztables.DeleteEntityOptions{IfMatch: a.IfMatch})
	default:
		_, err = d.c.UpsertEntity(ctx, a.Entity, &aztables.UpsertEntityOptions{UpdateMode: mode})
	}
	return codeOf(d.t, err)
}

var innerCode = regexp.MustCompile(`"code":"(\w+)","message":\{"lang":"en-US","value":"(\d+):`)

// codeOf is the code of a refusal, with the index of the operation to blame
// behind it when it was a transaction.
func codeOf(t *testing.T, err error) string {
	var e *azcore.ResponseError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &e):
		t.Fatal(err)
	case e.StatusCode != 202:
		return e.ErrorCode
	}
	body, _ := io.ReadAll(e.RawResponse.Body)
	m := innerCode.FindSubmatch(body)
	if m == nil {
		t.Fatalf("no code in %s", body)
	}
	return string(m[1]) + " " + string(m[2])
}

// learn notes the ETags of rows that were written.
func (d *differential) learn(changes []change) {
	for _, c := range changes {
		partition, rowKey, _ := strings.Cut(c.key, "/")
		if _, there := d.model[c.key]; !there {
			d.etags[c.key] = append(d.etags[c.key], `W/"gone"`)
			continue
		}
		r, err := d.c.GetEntity(deadline(d.t), partition, rowKey, nil)
		if err != nil {
			d.t.Fatal(err)
		}
		d.etags[c.key] = append(d.etags[c.key], r.ETag)
	}
}

func (d *differential) transaction() {
	var changes []change
	var batch actions
	next := d.model.clone()
	want := ""
	for range 1 + d.random.IntN(6) {
		c, a := d.change()
		switch {
		case len(changes) > 0 && c.key[:2] != changes[0].key[:2]: // another partition
			continue
		case slices.ContainsFunc(changes, func(o change) bool { return o.key == c.key }):
			continue
		}
		if code := next.apply(c); want == "" && code != "" {
			want = fmt.Sprintf("%s %d", code, len(changes))
		}
		changes, batch = append(changes, c), append(batch, a)
	}
	_, err := d.c.SubmitTransaction(deadline(d.t), batch, nil)
	if got := codeOf(d.t, err); got != want {
		d.t.Fatalf("transaction %+v: got %q, want %q", changes, got, want)
	}
	if want == "" {
		d.model = next
		d.learn(changes)
	}
}

// query compares a random filter's result with a walk over the model.
func (d *differential) query() {
	filter, holds := d.filter(3)
	var want []string
	for _, k := range slices.Sorted(maps.Keys(d.model)) {
		if holds(k, d.model[k]) {
			want = append(want, k)
		}
	}
	got, _ := list(d.t, d.c, aztables.ListEntitiesOptions{Filter: &filter, Top: ptr(int32(1 + d.random.IntN(8)))})
	if !slices.Equal(got, want) {
		d.t.Fatalf("%s: got %v, want %v", filter, got, want)
	}
}

func (d *differential) filter(depth int) (string, func(key string, props map[string]int) bool) {
	if depth > 0 && d.random.IntN(4) > 0 {
		a, holdsA := d.filter(depth - 1)
		b, holdsB := d.filter(depth - 1)
		switch d.random.IntN(5) {
		case 0:
			return "(" + a + ") or (" + b + ")", func(k string, p map[string]int) bool { return holdsA(k, p) || holdsB(k, p) }
		case 1:
			return "not (" + a + ")", func(k string, p map[string]int) bool { return !holdsA(k, p) }
		}
		return "(" + a + ") and (" + b + ")", func(k string, p map[string]int) bool { return holdsA(k, p) && holdsB(k, p) }
	}
	op := []string{"eq", "ne", "lt", "le", "gt", "ge"}[d.random.IntN(6)]
	holds := func(c int) bool {
		return map[string]bool{"eq": c == 0, "ne": c != 0, "lt": c < 0, "le": c <= 0, "gt": c > 0, "ge": c >= 0}[op]
	}
	switch d.random.IntN(3) {
	case 0:
		v := fmt.Sprintf("p%d", d.random.IntN(3))
		return "PartitionKey " + op + " '" + v + "'", func(k string, _ map[string]int) bool { return holds(strings.Compare(k[:2], v)) }
	case 1:
		v := fmt.Sprintf("r%02d", d.random.IntN(12))
		return "RowKey " + op + " '" + v + "'", func(k string, _ map[string]int) bool { return holds(strings.Compare(k[3:], v)) }
	}
	name, v := string(rune('A'+d.random.IntN(3))), d.random.IntN(5)
	return fmt.Sprintf("%s %s %d", name, op, v), func(_ string, p map[string]int) bool {
		got, there := p[name]
		return there && holds(got-v)
	}
}

// TestAgainstModel does at random what clients do, and compares every answer
// with what a map says.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "tables.db")
			s := serve(t, path)
			d := &differential{
				t:      t,
				random: rand.New(rand.NewPCG(seed, 7)),
				c:      tableOf(t, s, "pools"),
				model:  model{},
				etags:  map[string][]azcore.ETag{},
			}
			for step := range 400 {
				switch n := d.random.IntN(10); {
				case n < 4:
					c, a := d.change()
					next := d.model.clone()
					want := next.apply(c)
					if got := d.single(c, a); got != want {
						t.Fatalf("%+v: got %q, want %q", c, got, want)
					}
					if want == "" {
						d.model = next
						d.learn([]change{c})
					}
				case n < 7:
					d.transaction()
				default:
					d.query()
				}
				if step%150 == 149 {
					s.Close()
					s = serve(t, path)
					d.c = connect(t, s).NewClient("pools")
				}
			}
			d.compare()
		})
	}
}

// compare looks at every property of every row.
func (d *differential) compare() {
	for k, props := range d.model {
		partition, rowKey, _ := strings.Cut(k, "/")
		m := got(d.t, d.c, partition, rowKey)
		if len(m) != 5+len(props) {
			d.t.Errorf("%s: got %v, want %v", k, m, props)
		}
		for name, v := range props {
			if m[name] != float64(v) {
				d.t.Errorf("%s: got %s %v, want %d", k, name, m[name], v)
			}
		}
	}
	if got := len(filtered(d.t, d.c, "")); got != len(d.model) {
		d.t.Errorf("got %d rows, want %d", got, len(d.model))
	}
}
