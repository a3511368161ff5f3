package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// row is the content of an entity; nil = there is none.
type row = map[string]any

// write is one change of an entity.
type write struct {
	key      string
	kind     aztables.TransactionType
	old, new row
}

// table is a client of one table, which nobody else uses.
type table struct {
	name   string
	rng    *rand.Rand
	rows   map[string]row
	half   []write // the request without an answer: it was carried out completely, or not at all
	asked  bool    // its creation was requested
	exists bool    // its creation was acknowledged
	client *aztables.Client
}

func newTable(name string, rng *rand.Rand) *table {
	return &table{name: name, rng: rng, rows: map[string]row{}}
}

func (c *table) close() {}

func (c *table) connect(l *life) error {
	// With retries, the SDK would hide the result of the first try.
	o := &aztables.ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
	service, err := aztables.NewServiceClientFromConnectionString(l.child.Tables, o)
	if err != nil {
		return err
	}
	c.client = service.NewClient(c.name)
	if c.exists {
		return nil
	}
	_, err = c.client.CreateTable(l.ctx, nil)
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && refused.ErrorCode == string(aztables.TableAlreadyExists) && c.asked {
		err = nil
	}
	c.asked, c.exists = true, err == nil
	return err
}

// check reads all entities.
func (c *table) check(l *life) error {
	if err := c.connect(l); err != nil {
		return err
	}
	there := map[string]row{}
	for pages := c.client.NewListEntitiesPager(nil); pages.More(); {
		page, err := pages.NextPage(l.ctx)
		if err != nil {
			var refused *azcore.ResponseError
			if errors.As(err, &refused) && refused.ErrorCode == string(aztables.TableNotFound) {
				l.reportLoss("%s: the table was acknowledged, and is not there", c.name)
			}
			return err
		}
		for _, text := range page.Entities {
			var r row
			if err := json.Unmarshal(text, &r); err != nil {
				return err
			}
			key := fmt.Sprint(r["RowKey"])
			maps.DeleteFunc(r, func(name string, _ any) bool { return len(name) != 1 })
			if there[key] != nil {
				l.reportLoss("%s: row %s is there twice", c.name, key)
			}
			there[key] = r
		}
	}
	done := 0
	for _, w := range c.half {
		if maps.Equal(there[w.key], w.new) && (there[w.key] == nil) == (w.new == nil) {
			c.rows[w.key], done = w.new, done+1
		}
	}
	if done != 0 && done != len(c.half) {
		l.reportLoss("%s: %d changes of a transaction of %d", c.name, done, len(c.half))
	}
	c.half = nil
	for _, key := range slices.Sorted(maps.Keys(there)) {
		if c.rows[key] == nil {
			l.reportLoss("%s: row %s is there, but was deleted", c.name, key)
		}
	}
	for key, want := range c.rows {
		l.compared.Add(1)
		if got := there[key]; want != nil && !maps.Equal(got, want) {
			l.reportLoss("%s: row %s: got %v, acknowledged was %v", c.name, key, shorten(got), shorten(want))
		}
	}
	c.rows = there
	return nil
}

// shorten shortens long values.
func shorten(r row) string {
	const enough = 12
	short := row{}
	for name, v := range r {
		text := fmt.Sprintf("%.0f", v)
		if s, ok := v.(string); ok {
			text = s[:min(len(s), enough)]
		}
		short[name] = text
	}
	return fmt.Sprint(short)
}

// plan makes a change of an entity that the table accepts.
func (c *table) plan(key string) write {
	const maxBlob = 2000
	w := write{key: key, old: c.rows[key], kind: aztables.TransactionTypeAdd}
	kinds := []aztables.TransactionType{
		aztables.TransactionTypeInsertMerge,
		aztables.TransactionTypeInsertReplace,
		aztables.TransactionTypeUpdateMerge,
		aztables.TransactionTypeUpdateReplace,
		aztables.TransactionTypeDelete,
	}
	switch {
	case w.old != nil:
		w.kind = kinds[c.rng.IntN(len(kinds))]
	case c.rng.IntN(2) == 0:
		w.kind = kinds[c.rng.IntN(2)]
	}
	if w.kind == aztables.TransactionTypeDelete {
		return w
	}
	w.new = row{}
	if w.kind == aztables.TransactionTypeInsertMerge || w.kind == aztables.TransactionTypeUpdateMerge {
		maps.Copy(w.new, w.old)
	}
	names := "ABC"
	name := string(names[c.rng.IntN(len(names))])
	w.new[name] = strings.Repeat(fmt.Sprint(c.rng.Uint32(), " "), 1+c.rng.IntN(maxBlob)/10)
	w.new["N"] = float64(c.rng.Uint32() >> 1) // a float64, as JSON returns it; it distinguishes each version from the last
	return w
}

// entity returns the body of the request: without the properties that a merge keeps.
func (w write) entity() []byte {
	e := row{"PartitionKey": "p", "RowKey": w.key}
	merge := w.kind == aztables.TransactionTypeInsertMerge || w.kind == aztables.TransactionTypeUpdateMerge
	for name, v := range w.new {
		if !merge || w.old[name] != v {
			e[name] = v
		}
	}
	if v, ok := e["N"].(float64); ok {
		e["N"] = int64(v)
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return text
}

func (c *table) step(l *life) error {
	const rows, most = 24, 10
	n := 1
	if c.rng.IntN(2) == 0 {
		n = 2 + c.rng.IntN(most)
	}
	var all []write
	for _, i := range c.rng.Perm(rows)[:n] {
		all = append(all, c.plan(fmt.Sprintf("r%d", i)))
	}
	c.half = all
	if err := c.submit(l, all); err != nil {
		return err
	}
	for _, w := range all {
		c.rows[w.key] = w.new
	}
	c.half = nil
	l.acknowledge()
	return nil
}

func (c *table) submit(l *life, all []write) error {
	if len(all) > 1 {
		var actions []aztables.TransactionAction
		for _, w := range all {
			actions = append(actions, aztables.TransactionAction{ActionType: w.kind, Entity: w.entity()})
		}
		_, err := c.client.SubmitTransaction(l.ctx, actions, nil)
		return err
	}
	w, err := all[0], error(nil)
	switch w.kind {
	case aztables.TransactionTypeAdd:
		_, err = c.client.AddEntity(l.ctx, w.entity(), nil)
	case aztables.TransactionTypeInsertMerge:
		_, err = c.client.UpsertEntity(l.ctx, w.entity(), &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeMerge})
	case aztables.TransactionTypeInsertReplace:
		_, err = c.client.UpsertEntity(l.ctx, w.entity(), &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	case aztables.TransactionTypeUpdateMerge:
		_, err = c.client.UpdateEntity(l.ctx, w.entity(), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge})
	case aztables.TransactionTypeUpdateReplace:
		_, err = c.client.UpdateEntity(l.ctx, w.entity(), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	case aztables.TransactionTypeDelete:
		_, err = c.client.DeleteEntity(l.ctx, "p", w.key, nil)
	}
	return err
}
