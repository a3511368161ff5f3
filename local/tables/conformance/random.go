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
	partitions = []string{"a", "b", "a b", "o'neil", "ü-ö", "%41", "x+y=z&", ""}
	rows       = []string{"1", "2", "10", "A", "a", "row's", "日本", "%2F", "~!@$^*()", " lead"}
	names      = []string{"A", "B", "C", "Über", "_u", "D1"}
)

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

// keep remembers the version that an answer tells.
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
		name := pick(g, names)
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
	case 4:
		return pick(g, names) + " " + op + " " + pick(g, []string{"0", "1", "7", "-1"})
	case 5:
		return pick(g, names) + " " + op + " " + pick(g, []string{"0L", "9223372036854775807L", "0.5", "true", "false"})
	case 6:
		return pick(g, names) + " " + op + " " + pick(g, []string{"datetime'2026-01-02T03:04:05Z'", "guid'0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'", "X'0102'", "binary'0102'"})
	}
	return pick(g, names) + " " + op + " " + pick(g, []string{"''", "'x'", "'12'"})
}

// query reads all pages.
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
		fields := pick(g, []string{"RowKey", "A,B", "PartitionKey,RowKey,Timestamp,C", "A,Unknown"})
		o.Select, name = &fields, name+" select "+fields
	}
	table := g.table
	return call{name, func(ctx context.Context, t *target) outcome {
		var all outcome
		for pager, pages := t.service.NewClient(table).NewListEntitiesPager(&o), 0; pager.More() && pages < 100; pages++ {
			var raw *http.Response
			_, err := pager.NextPage(policy.WithCaptureResponse(ctx, &raw))
			page := read(t, raw, err)
			all.summary += "page " + page.summary + "; "
			all.lines = append(all.lines, page.lines...)
			if err != nil {
				break
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
		kind := pick(g, []aztables.TransactionType{aztables.TransactionTypeAdd, aztables.TransactionTypeUpdateMerge, aztables.TransactionTypeUpdateReplace,
			aztables.TransactionTypeInsertMerge, aztables.TransactionTypeInsertReplace, aztables.TransactionTypeDelete, aztables.TransactionTypeInsertReplace})
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
