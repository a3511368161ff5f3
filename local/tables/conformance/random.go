package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// generator draws operations for the client, the same for every target.
type generator struct {
	*rand.Rand
	table string
}

// call is one operation, to be sent to each target.
type call struct {
	name string
	send func(ctx context.Context, t *target) outcome
}

var (
	partitions = []string{"a", "b", "a b", "o'neil", "ü-ö", "%41", "x+y=z&"}
	rows       = []string{"1", "2", "10", "A", "a", "row's", "日本", "%2F", "~!@$^*()", " lead"}
	mixed      = []string{"A", "B", "Über"} // names of properties of any type
)

// typed are names whose properties are always of one type, so that filters can
// compare with it: what a comparison with another type is worth, only the cases
// ask.
var typed = []struct {
	name, kind string
	values     []any
	literals   []string
}{
	{"Text", "", []any{"", "x", "it's", "日本", "12"}, []string{"''", "'x'", "'it''s'", "'12'"}},
	{"On", "", []any{true, false}, []string{"true", "false"}},
	{"Small", "", []any{0, 1, -1, 1<<31 - 1, -1 << 31}, []string{"0", "1", "-1", "2147483647"}},
	{"Large", "Edm.Int64", []any{"0", "-5", "9223372036854775807"}, []string{"0L", "-5L", "9223372036854775807L"}},
	{"Real", "Edm.Double", []any{0.5, -2.25, 1e10 + 0.5}, []string{"0.5", "-2.25", "1500.5"}},
	{
		"At",
		"Edm.DateTime",
		[]any{"2026-01-02T03:04:05Z", "2020-12-31T23:59:59.1234567Z"},
		[]string{"datetime'2026-01-02T03:04:05Z'", "datetime'2021-01-01T00:00:00Z'"},
	},
	{
		"Id",
		"Edm.Guid",
		[]any{"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "c9da6455-213d-42c9-9a79-3e9149a57833"},
		[]string{"guid'0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'"},
	},
	{"Raw", "Edm.Binary", []any{"", "AQI=", "/////w=="}, []string{"X'0102'", "binary'0102'"}},
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// next draws an operation.
func (g *generator) next() call {
	partition, row := pick(g, partitions), pick(g, rows)
	switch n := g.IntN(100); {
	case n < 18:
		body := g.entity(partition, row)
		return g.one("insert", partition, row, func(ctx context.Context, t *target, c *aztables.Client) error {
			_, err := c.AddEntity(ctx, body, nil)
			return err
		})
	case n < 36:
		body, mode := g.entity(partition, row), g.mode()
		return g.one("upsert "+string(mode), partition, row, func(ctx context.Context, t *target, c *aztables.Client) error {
			_, err := c.UpsertEntity(ctx, body, &aztables.UpsertEntityOptions{UpdateMode: mode})
			return err
		})
	case n < 50:
		body, mode, version := g.entity(partition, row), g.mode(), g.IntN(3)
		return g.one("update "+string(mode), partition, row, func(ctx context.Context, t *target, c *aztables.Client) error {
			_, err := c.UpdateEntity(ctx, body, &aztables.UpdateEntityOptions{UpdateMode: mode, IfMatch: t.match(version, partition, row)})
			return err
		})
	case n < 58:
		version := g.IntN(3)
		return g.one("delete", partition, row, func(ctx context.Context, t *target, c *aztables.Client) error {
			_, err := c.DeleteEntity(ctx, partition, row, &aztables.DeleteEntityOptions{IfMatch: t.match(version, partition, row)})
			return err
		})
	case n < 70:
		format := g.format()
		return g.one("get "+string(format), partition, row, func(ctx context.Context, t *target, c *aztables.Client) error {
			_, err := c.GetEntity(ctx, partition, row, &aztables.GetEntityOptions{Format: &format})
			return err
		})
	case n < 85:
		return g.query()
	}
	return g.transaction(partition)
}

func (g *generator) mode() aztables.UpdateMode {
	return pick(g, []aztables.UpdateMode{aztables.UpdateModeMerge, aztables.UpdateModeReplace})
}

func (g *generator) format() aztables.MetadataFormat {
	return pick(g, []aztables.MetadataFormat{aztables.MetadataFormatMinimal, aztables.MetadataFormatNone, aztables.MetadataFormatFull})
}

// match is what a request says about the version: anything, the last one that
// was written, or one of before.
func (t *target) match(version int, partition, row string) *azcore.ETag {
	tag := azcore.ETagAny
	switch {
	case version == 1 && t.etags[partition+"\x00"+row] != "":
		tag = azcore.ETag(t.etags[partition+"\x00"+row])
	case version == 2 && t.stale != "":
		tag = azcore.ETag(t.stale)
	}
	return &tag
}

// keep remembers the version that an answer shows.
func (t *target) keep(partition, row, etag string) {
	k := partition + "\x00" + row
	if etag == "" {
		return
	}
	if before := t.etags[k]; before != "" && before != etag {
		t.stale = before
	}
	t.etags[k] = etag
}

// one is an operation on one entity.
func (g *generator) one(name, partition, row string, do func(context.Context, *target, *aztables.Client) error) call {
	table := g.table
	return call{fmt.Sprintf("%s %q %q", name, partition, row), func(ctx context.Context, t *target) outcome {
		var raw *http.Response
		err := do(policy.WithCaptureResponse(ctx, &raw), t, t.service.NewClient(table))
		o := read(t, raw, err)
		if len(o.etags) == 1 {
			t.keep(partition, row, o.etags[0])
		}
		return o
	}}
}

// entity draws one with up to four properties of any type.
func (g *generator) entity(partition, row string) []byte {
	m := map[string]any{"PartitionKey": partition, "RowKey": row}
	for range g.IntN(5) {
		if t := pick(g, typed); g.IntN(2) == 0 {
			m[t.name] = pick(g, t.values)
			if t.kind != "" {
				m[t.name+"@odata.type"] = t.kind
			}
			continue
		}
		name := pick(g, mixed)
		delete(m, name+"@odata.type")
		value, kind := g.value()
		m[name] = value
		if kind != "" {
			m[name+"@odata.type"] = kind
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func (g *generator) value() (any, string) {
	switch g.IntN(9) {
	case 0:
		return pick(g, []string{"", "x", "it's \"quoted\"", "日本 \u0001", "12", "true"}), ""
	case 1:
		return g.IntN(2) == 0, ""
	case 2:
		return pick(g, []int{0, 1, -1, 7, 1<<31 - 1, -1 << 31}), ""
	case 3:
		return pick(g, []string{"0", "-5", "9223372036854775807", "-9223372036854775808"}), "Edm.Int64"
	case 4:
		return pick(g, []float64{0.5, -2.25, 1e10 + 0.5, 3.141592653589793}), "Edm.Double"
	case 5:
		return pick(g, []string{"2026-01-02T03:04:05Z", "2020-12-31T23:59:59.1234567Z", "1601-01-01T00:00:00Z"}), "Edm.DateTime"
	case 6:
		return pick(g, []string{"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "c9da6455-213d-42c9-9a79-3e9149a57833"}), "Edm.Guid"
	case 7:
		return pick(g, []string{"", "AQI=", "/////w=="}), "Edm.Binary"
	}
	return "typed", "Edm.String"
}

// filter draws one that compares keys and properties.
func (g *generator) filter(depth int) string {
	if depth < 3 && g.IntN(3) == 0 {
		switch g.IntN(3) {
		case 0:
			return "(" + g.filter(depth+1) + " and " + g.filter(depth+1) + ")"
		case 1:
			return "(" + g.filter(depth+1) + " or " + g.filter(depth+1) + ")"
		}
		return "not (" + g.filter(depth+1) + ")"
	}
	op := pick(g, []string{"eq", "ne", "gt", "ge", "lt", "le"})
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	switch g.IntN(8) {
	case 0, 1:
		return "PartitionKey " + op + " " + quoted(pick(g, partitions))
	case 2, 3:
		return "RowKey " + op + " " + quoted(pick(g, rows))
	}
	t := pick(g, typed)
	if t.kind == "Edm.Binary" {
		op = "eq" // Azurite has another order of bytes; see the cases
	}
	return t.name + " " + op + " " + pick(g, t.literals)
}

// query reads all pages. Where pages end is the servers' own affair, as long as
// none is longer than what is asked for.
func (g *generator) query() call {
	o := aztables.ListEntitiesOptions{Format: new(aztables.MetadataFormat)}
	*o.Format = g.format()
	name := "query"
	if g.IntN(4) > 0 {
		filter := g.filter(0)
		o.Filter, name = &filter, "query "+filter
	}
	if g.IntN(2) == 0 {
		top := int32(1 + g.IntN(7))
		o.Top = &top
	}
	if g.IntN(4) == 0 {
		fields := pick(g, []string{"RowKey", "A,B", "PartitionKey,RowKey,Timestamp,Text", "A,Unknown"})
		o.Select, name = &fields, name+" select "+fields
	}
	table := g.table
	return call{name, func(ctx context.Context, t *target) outcome {
		all := outcome{summary: "all rows"}
		for pager, pages := t.service.NewClient(table).NewListEntitiesPager(&o), 0; pager.More() && pages < 100; pages++ {
			var raw *http.Response
			_, err := pager.NextPage(policy.WithCaptureResponse(ctx, &raw))
			page := read(t, raw, err)
			if err != nil {
				all.summary = page.summary
				break
			}
			for _, line := range page.lines {
				row, rest, found := strings.Cut(line, "]")
				if !found { // about the answer as a whole
					all.lines = append(all.lines, line)
					continue
				}
				all.lines = append(all.lines, "row"+rest)
				if o.Top != nil && row == fmt.Sprintf(".value[%d", *o.Top) {
					all.summary = "too long a page"
				}
			}
		}
		return all
	}}
}

// transaction changes some entities of a partition. The client does not double
// quotes within the keys of a transaction, so there are none.
func (g *generator) transaction(partition string) call {
	partition = strings.ReplaceAll(partition, "'", "-")
	type step struct {
		kind    aztables.TransactionType
		row     string
		body    []byte
		version int
	}
	var steps []step
	for _, i := range g.Perm(len(rows))[:1+g.IntN(5)] {
		row := strings.ReplaceAll(rows[i], "'", "-")
		kind := pick(
			g,
			[]aztables.TransactionType{
				aztables.TransactionTypeAdd,
				aztables.TransactionTypeUpdateMerge,
				aztables.TransactionTypeUpdateReplace,
				aztables.TransactionTypeInsertMerge,
				aztables.TransactionTypeInsertReplace,
				aztables.TransactionTypeDelete,
				aztables.TransactionTypeInsertReplace,
			},
		)
		steps = append(steps, step{kind, row, g.entity(partition, row), g.IntN(6)})
	}
	table := g.table
	return call{fmt.Sprintf("transaction of %d in %q", len(steps), partition), func(ctx context.Context, t *target) outcome {
		var actions []aztables.TransactionAction
		for _, s := range steps {
			a := aztables.TransactionAction{ActionType: s.kind, Entity: s.body}
			switch s.kind {
			case aztables.TransactionTypeUpdateMerge, aztables.TransactionTypeUpdateReplace, aztables.TransactionTypeDelete:
				a.IfMatch = t.match(s.version, partition, s.row)
			}
			actions = append(actions, a)
		}
		var raw *http.Response
		_, err := t.service.NewClient(table).SubmitTransaction(policy.WithCaptureResponse(ctx, &raw), actions, nil)
		o := read(t, raw, err)
		if len(o.etags) == len(steps) && err == nil {
			for i, s := range steps {
				t.keep(partition, s.row, o.etags[i])
			}
		}
		return o
	}}
}
