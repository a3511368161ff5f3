package tables

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func TestInsertGetDelete(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	ctx := deadline(t)
	added, err := c.AddEntity(ctx, row("cpu", "head", "State", "ready", "Count", 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.GetEntity(ctx, "cpu", "head", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.ETag != added.ETag || !strings.HasPrefix(string(r.ETag), `W/"datetime'`) {
		t.Errorf("got ETag %s, want that of the insert, %s", r.ETag, added.ETag)
	}
	m := decoded(t, r.Value)
	if m["odata.etag"] != string(r.ETag) || m["State"] != "ready" || m["Count"] != 3.0 {
		t.Errorf("got %v", m)
	}
	if inserted := decoded(t, added.Value); inserted["State"] != "ready" {
		t.Errorf("the answer to the insert shows %v", inserted)
	}
	_, err = c.AddEntity(ctx, row("cpu", "head"), nil)
	wantError(t, err, 409, "EntityAlreadyExists")
	if _, err := c.DeleteEntity(ctx, "cpu", "head", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteEntity(ctx, "cpu", "head", nil)
	wantError(t, err, 404, "ResourceNotFound")
	_, err = c.GetEntity(ctx, "cpu", "head", nil)
	wantError(t, err, 404, "ResourceNotFound")
	if got := s.Stats(); got.EntitiesWritten != 2 || got.Reads != 2 || got.Requests != 7 {
		t.Errorf("got %+v, want 2 written, 2 reads, 7 requests", got)
	}
}

func TestUpdatesHoldTheirConditions(t *testing.T) {
	t.Parallel()
	for _, mode := range []aztables.UpdateMode{aztables.UpdateModeMerge, aztables.UpdateModeReplace} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			_, c := newTable(t)
			ctx := deadline(t)
			update := func(match *azcore.ETag, pairs ...any) (aztables.UpdateEntityResponse, error) {
				return c.UpdateEntity(ctx, row("p", "r", pairs...), &aztables.UpdateEntityOptions{IfMatch: match, UpdateMode: mode})
			}
			_, err := update(nil, "A", "1")
			wantError(t, err, 404, "ResourceNotFound")
			added, err := c.AddEntity(ctx, row("p", "r", "A", "1", "B", "1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			second, err := update(&added.ETag, "A", "2")
			if err != nil {
				t.Fatal(err)
			}
			_, err = update(&added.ETag, "A", "3")
			wantError(t, err, 412, "UpdateConditionNotSatisfied")
			third, err := update(nil, "A", "4")
			if err != nil {
				t.Fatal(err)
			}
			if second.ETag == added.ETag || third.ETag == second.ETag || third.ETag < second.ETag {
				t.Errorf("ETags must rise: %s, %s, %s", added.ETag, second.ETag, third.ETag)
			}
			m := got(t, c, "p", "r")
			if kept := m["B"] == "1"; m["A"] != "4" || kept != (mode == aztables.UpdateModeMerge) {
				t.Errorf("got %v", m)
			}
			_, err = c.DeleteEntity(ctx, "p", "r", &aztables.DeleteEntityOptions{IfMatch: &second.ETag})
			wantError(t, err, 412, "UpdateConditionNotSatisfied")
			if _, err := c.DeleteEntity(ctx, "p", "r", &aztables.DeleteEntityOptions{IfMatch: &third.ETag}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUpsert(t *testing.T) {
	t.Parallel()
	for _, mode := range []aztables.UpdateMode{aztables.UpdateModeMerge, aztables.UpdateModeReplace} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			_, c := newTable(t)
			o := aztables.UpsertEntityOptions{UpdateMode: mode}
			for _, e := range [][]byte{row("p", "r", "A", "1", "B", "1"), row("p", "r", "A", "2", "C", "2")} {
				if r, err := c.UpsertEntity(deadline(t), e, &o); err != nil || r.ETag == "" {
					t.Fatalf("got ETag %q, %v", r.ETag, err)
				}
			}
			m := got(t, c, "p", "r")
			if kept := m["B"] == "1"; m["A"] != "2" || m["C"] != "2" || kept != (mode == aztables.UpdateModeMerge) {
				t.Errorf("got %v", m)
			}
		})
	}
}

func TestAllTypesComeBack(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	at := time.Date(2026, 2, 3, 4, 5, 6, 789012300, time.UTC)
	want := map[string]any{
		"Text": "quotes \" ' \\ <&> \x01 \u2028 grüße 日本 \U0001F600", "Empty": "", "Yes": true, "No": false,
		"Int": int32(math.MinInt32), "Long": aztables.EDMInt64(math.MaxInt64), "Low": aztables.EDMInt64(math.MinInt64),
		"Real": 2.5, "Tiny": 5e-324, "Huge": 1e300, "Wide": 1e10,
		"At": aztables.EDMDateTime(at), "Old": aztables.EDMDateTime(time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)),
		"Bytes": aztables.EDMBinary{
			0,
			255,
			1,
		}, "None": aztables.EDMBinary{}, "ID": aztables.EDMGUID("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"),
	}
	e, err := json.Marshal(aztables.EDMEntity{Entity: aztables.Entity{PartitionKey: "p", RowKey: "r"}, Properties: want})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddEntity(deadline(t), e, nil); err != nil {
		t.Fatal(err)
	}
	for _, format := range []aztables.MetadataFormat{aztables.MetadataFormatMinimal, aztables.MetadataFormatFull} {
		r, err := c.GetEntity(deadline(t), "p", "r", &aztables.GetEntityOptions{Format: &format})
		if err != nil {
			t.Fatal(err)
		}
		var back aztables.EDMEntity
		if err := json.Unmarshal(r.Value, &back); err != nil {
			t.Fatalf("%v in %s", err, r.Value)
		}
		if len(back.Properties) != len(want) {
			t.Errorf("%s: got %d properties, want %d", format, len(back.Properties), len(want))
		}
		for name, w := range want {
			if g := back.Properties[name]; fmt.Sprintf("%T %v", g, g) != fmt.Sprintf("%T %v", w, w) {
				t.Errorf("%s: %s: got %T %v, want %T %v", format, name, g, g, w, w)
			}
		}
		if full := format == aztables.MetadataFormatFull; (back.ID != "") != full || (back.EditLink != "") != full ||
			(back.Type != "") != full {
			t.Errorf("%s: got id %q, link %q, type %q", format, back.ID, back.EditLink, back.Type)
		}
		if back.ETag == "" || back.Metadata == "" || time.Since(time.Time(back.Timestamp)).Abs() > time.Minute {
			t.Errorf("%s: got ETag %q, metadata %q, timestamp %v", format, back.ETag, back.Metadata, time.Time(back.Timestamp))
		}
	}
	none := aztables.MetadataFormatNone
	r, err := c.GetEntity(deadline(t), "p", "r", &aztables.GetEntityOptions{Format: &none})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Value), "odata") {
		t.Errorf("without metadata there is some: %s", r.Value)
	}
}

func TestLimitsOfEntities(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	many := func(n int) []byte {
		pairs := []any{}
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("P%d", i), i)
		}
		return row("p", "many", pairs...)
	}
	big := func(values int) []byte {
		pairs := []any{}
		for i := range values {
			pairs = append(pairs, fmt.Sprintf("P%d", i), strings.Repeat("x", 32<<10))
		}
		return row("p", "big", pairs...)
	}
	for _, test := range []struct {
		name   string
		entity []byte
		code   string // "" = accepted
	}{
		{"252 properties", many(252), ""},
		{"253 properties", many(253), "TooManyProperties"},
		{"text of 32 Ki characters", row("p", "text", "A", strings.Repeat("é", 32<<10)), ""},
		{"text of more", row("p", "text2", "A", strings.Repeat("é", 32<<10+1)), "PropertyValueTooLarge"},
		{"pairs of surrogates count twice", row("p", "text3", "A", strings.Repeat("\U0001F600", 16<<10+1)), "PropertyValueTooLarge"},
		{"bytes of 64 KiB", row("p", "bytes", "A", make([]byte, 64<<10), "A@odata.type", "Edm.Binary"), ""},
		{"bytes of more", row("p", "bytes2", "A", make([]byte, 64<<10+1), "A@odata.type", "Edm.Binary"), "PropertyValueTooLarge"},
		{"just below 1 MiB", big(15), ""},
		{"above 1 MiB", big(16), "EntityTooLarge"},
		{"key of 1024", row(strings.Repeat("k", 1024), "r"), ""},
		{"key of 1025", row("p", strings.Repeat("k", 1025)), "KeyValueTooLarge"},
		{"slash", row("a/b", "r"), "OutOfRangeInput"},
		{"backslash", row("p", `a\b`), "OutOfRangeInput"},
		{"hash", row("p", "a#b"), "OutOfRangeInput"},
		{"question mark", row("p", "a?b"), "OutOfRangeInput"},
		{"zero", row("p", "a\x00b"), "OutOfRangeInput"},
		{"U+0085", row("p", "a\u0085b"), "OutOfRangeInput"},
		{"empty keys", row("", ""), ""},
		{"key that is a number", []byte(`{"PartitionKey":"p","RowKey":7}`), "InvalidInput"},
		{"dash in a name", row("p", "r", "a-b", 1), "PropertyNameInvalid"},
		{"digit first", row("p", "r", "1a", 1), "PropertyNameInvalid"},
		{"name of 256", row("p", "r", strings.Repeat("n", 256), 1), "PropertyNameTooLong"},
		{"unicode name", row("p", "name", "Größe_1", 1), ""},
		{"nested", []byte(`{"PartitionKey":"p","RowKey":"n","A":{"B":1}}`), "InvalidInput"},
		{"time before 1601", row("p", "t", "A", "1600-12-31T23:59:59Z", "A@odata.type", "Edm.DateTime"), "InvalidInput"},
		{"guid that is none", row("p", "g", "A", "x", "A@odata.type", "Edm.Guid"), "InvalidInput"},
		{"int32 out of range", row("p", "i", "A", 1<<31, "A@odata.type", "Edm.Int32"), "InvalidInput"},
		{"unknown type", row("p", "u", "A", "x", "A@odata.type", "Edm.Decimal"), "InvalidInput"},
		{"null is left out", []byte(`{"PartitionKey":"p","RowKey":"null","A":null}`), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.AddEntity(deadline(t), test.entity, nil)
			if test.code != "" {
				wantError(t, err, 400, test.code)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
	if m := got(t, c, "p", "null"); len(m) != 5 { // metadata, etag, keys, time
		t.Errorf("a null was kept: %v", m)
	}
	_, err := c.AddEntity(deadline(t), []byte(`{"PartitionKey":"p"}`), nil)
	if err == nil {
		t.Error("an insert without a RowKey must fail")
	}
}

func TestMergeKeepsTheLimits(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	half := func(prefix string, n int) []byte {
		pairs := []any{}
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("%s%d", prefix, i), i)
		}
		return row("p", "r", pairs...)
	}
	merge := &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeMerge}
	if _, err := c.UpsertEntity(deadline(t), half("A", 200), merge); err != nil {
		t.Fatal(err)
	}
	_, err := c.UpsertEntity(deadline(t), half("B", 53), merge)
	wantError(t, err, 400, "TooManyProperties")
	if _, err := c.UpsertEntity(deadline(t), half("B", 52), merge); err != nil {
		t.Fatal(err)
	}
	if m := got(t, c, "p", "r"); len(m) != 252+5 {
		t.Errorf("got %d members, want 252 and five of the system", len(m))
	}
}

func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	for _, k := range []string{"o'neil", "''", "a b", " a ", "a,RowKey='x'", "(x)", "x)", "日本", "%41", "a+b", "a%2Fb", "=&;", `"`, "\U0001F600", "."} {
		if _, err := c.AddEntity(deadline(t), row("key", "r-"+k), nil); err != nil {
			t.Errorf("%q: %v", k, err)
			continue
		}
		m := got(t, c, "key", "r-"+k)
		if m["RowKey"] != "r-"+k {
			t.Errorf("got %q, want %q", m["RowKey"], "r-"+k)
		}
		filter := "RowKey eq 'r-" + strings.ReplaceAll(k, "'", "''") + "'"
		if got := filtered(t, c, filter); len(got) != 1 {
			t.Errorf("%s: got %v, want one", filter, got)
		}
	}
}
