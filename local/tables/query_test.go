package tables

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// fill adds rows in transactions.
func fill(t testing.TB, c *aztables.Client, partition string, n int) {
	t.Helper()
	for at := 0; at < n; at += maxOperations {
		var actions []aztables.TransactionAction
		for i := at; i < min(n, at+maxOperations); i++ {
			actions = append(
				actions,
				aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: row(partition, fmt.Sprintf("%05d", i), "N", i)},
			)
		}
		if _, err := c.SubmitTransaction(deadline(t), actions, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	ctx := deadline(t)
	for _, e := range [][]byte{
		row("a", "1", "Name", "x", "N", 1, "Big", "9007199254740993", "Big@odata.type", "Edm.Int64", "On", true),
		row("a", "2", "Name", "o'neil", "N", 2, "R", 2.5, "On", false),
		row("a", "3", "At", "2026-01-02T03:04:05.0000001Z", "At@odata.type", "Edm.DateTime", "ID", "0F1E2D3C-4b5a-6978-8796-a5b4c3d2e1f0", "ID@odata.type", "Edm.Guid"),
		row("b", "1", "Raw", []byte{1, 0xab}, "Raw@odata.type", "Edm.Binary", "N", -5),
		row("ab", "1", "Name", "and or not"),
		row("b", "2"),
	} {
		if _, err := c.AddEntity(ctx, e, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		filter string
		want   []string
	}{
		{"", []string{"a/1", "a/2", "a/3", "ab/1", "b/1", "b/2"}},
		{"PartitionKey eq 'a'", []string{"a/1", "a/2", "a/3"}},
		{"PartitionKey eq 'a' and RowKey gt '1'", []string{"a/2", "a/3"}},
		{"PartitionKey eq 'a' and RowKey ge '1' and RowKey lt '3'", []string{"a/1", "a/2"}},
		{"PartitionKey eq 'a' and RowKey le '2'", []string{"a/1", "a/2"}},
		{"PartitionKey gt 'a'", []string{"ab/1", "b/1", "b/2"}},
		{"PartitionKey ge 'a' and PartitionKey lt 'b'", []string{"a/1", "a/2", "a/3", "ab/1"}},
		{"PartitionKey le 'a'", []string{"a/1", "a/2", "a/3"}},
		{"PartitionKey ne 'a'", []string{"ab/1", "b/1", "b/2"}},
		{"PartitionKey eq 'b' or PartitionKey eq 'ab'", []string{"ab/1", "b/1", "b/2"}},
		{"PartitionKey eq 'a' and (RowKey eq '3' or RowKey eq '1')", []string{"a/1", "a/3"}},
		{"(PartitionKey eq 'b' and RowKey eq '2') or (PartitionKey eq 'a' and RowKey eq '2')", []string{"a/2", "b/2"}},
		{"PartitionKey eq 'a' and PartitionKey eq 'b'", nil},
		{"RowKey eq '1'", []string{"a/1", "ab/1", "b/1"}},
		{"'a' lt PartitionKey and '1' eq RowKey", []string{"ab/1", "b/1"}},
		{"not (PartitionKey eq 'a')", []string{"ab/1", "b/1", "b/2"}},
		{"PartitionKey eq 'a' and not (N eq 1)", []string{"a/2", "a/3"}},
		{"Name eq 'o''neil'", []string{"a/2"}},
		{"Name eq 'and or not'", []string{"ab/1"}},
		{"N ge 1", []string{"a/1", "a/2"}},
		{"N eq -5", []string{"b/1"}},
		{"N eq 1L", []string{"a/1"}},
		{"N gt 1.5", []string{"a/2"}},
		{"N ne 1", []string{"a/2", "b/1"}},
		{"Big eq 9007199254740993L", []string{"a/1"}},
		{"Big eq 9007199254740992L", nil},
		{"R gt 2 and R lt 3.0", []string{"a/2"}},
		{"R eq 2.5d", []string{"a/2"}},
		{"On eq true", []string{"a/1"}},
		{"On", []string{"a/1"}},
		{"not On", []string{"a/2", "a/3", "ab/1", "b/1", "b/2"}},
		{"On eq false", []string{"a/2"}},
		{"At eq datetime'2026-01-02T03:04:05.0000001Z'", []string{"a/3"}},
		{"At gt datetime'2026-01-02T03:04:05Z'", []string{"a/3"}},
		{"At lt datetime'2026-01-02T03:04:05'", nil},
		{"ID eq guid'0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'", []string{"a/3"}},
		{"Raw eq X'01ab'", []string{"b/1"}},
		{"Raw eq binary'01AB'", []string{"b/1"}},
		{"Timestamp gt datetime'2020-01-01T00:00:00Z' and RowKey eq '3'", []string{"a/3"}},
		{"Name eq 1", nil},
		{"N eq '1'", nil},
		{"Missing eq 1 or Missing ne 1", nil},
		{"PartitionKey eq 'a' and N eq 1 or PartitionKey eq 'b' and N eq -5", []string{"a/1", "b/1"}},
	} {
		if got := filtered(t, c, test.filter); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.filter, got, test.want)
		}
	}
	for _, filter := range []string{
		"Name eq", "eq 'x'", "Name == 'x'", "(Name eq 'x'", "Name eq 'x')", "Name eq 'x", "Name eq x", "Name eq null", "1 eq 1",
		"Name eq 'x' and", "Name eq 'x' 'y'",
		"At eq datetime'yesterday'", "ID eq guid'x'", "Raw eq X'0'", "N eq 1.5L", "N eq --1", "RowKey eq 1", "startswith(Name,'x')",
		"N eq 99999999999999999999", "N add 1 eq 2", "not",
	} {
		pager := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter})
		_, err := pager.NextPage(ctx)
		t.Log(filter)
		wantError(t, err, http.StatusBadRequest, "InvalidInput")
	}
}

func TestPagesOfAThousand(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	fill(t, c, "p", 2100)
	keys, pages := list(t, c, aztables.ListEntitiesOptions{})
	if len(keys) != 2100 || pages != 3 || !slices.IsSorted(keys) {
		t.Errorf("got %d rows on %d pages, want 2100 on 3, in order", len(keys), pages)
	}
	keys, pages = list(
		t,
		c,
		aztables.ListEntitiesOptions{Filter: ptr("PartitionKey eq 'p' and RowKey ge '00100' and RowKey lt '00105'"), Top: ptr(int32(2))},
	)
	if want := []string{"p/00100", "p/00101", "p/00102", "p/00103", "p/00104"}; !slices.Equal(keys, want) || pages != 3 {
		t.Errorf("got %v on %d pages, want %v on 3", keys, pages, want)
	}
	pager := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Top: ptr(int32(1001))})
	_, err := pager.NextPage(deadline(t))
	wantError(t, err, 400, "InvalidInput")
}

// TestContinuationOfOddKeys goes through keys that would not survive in a
// header, one at a time.
func TestContinuationOfOddKeys(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	var want []string
	for _, p := range []string{"", " ", "日本"} {
		for _, r := range []string{"", " lead", "trail ", "ü", "\U0001F600"} {
			if _, err := c.AddEntity(deadline(t), row(p, r), nil); err != nil {
				t.Fatal(err)
			}
			want = append(want, p+"/"+r)
		}
	}
	keys, pages := list(t, c, aztables.ListEntitiesOptions{Top: ptr(int32(1))})
	if !slices.Equal(keys, want) || pages != len(want) {
		t.Errorf("got %q on %d pages, want %q, one on each", keys, pages, want)
	}
}

// TestPageMayBeEmpty looks for a row that lies behind more rows than one page
// examines.
func TestPageMayBeEmpty(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	fill(t, c, "p", maxExamined+10)
	filter := fmt.Sprintf("N eq %d", maxExamined+5)
	pager := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter})
	first, err := pager.NextPage(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Entities) != 0 || first.NextPartitionKey == nil || !pager.More() {
		t.Fatalf("got %d rows, continuation %v; want an empty page that goes on", len(first.Entities), first.NextPartitionKey)
	}
	second, err := pager.NextPage(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Entities) != 1 || pager.More() {
		t.Errorf("got %d rows, more: %v; want the one and the end", len(second.Entities), pager.More())
	}
}

// TestRangesDoNotScan asks for little from much; a scan would end the page
// early.
func TestRangesDoNotScan(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{
		"PartitionKey eq 'x' and RowKey eq 'y'",
		"PartitionKey eq 'x' and RowKey ge 'b' and RowKey lt 'c'",
		"RowKey ge 'b' and (N eq 1 or N eq 2) and PartitionKey eq 'x'",
		"PartitionKey ge 'x' and PartitionKey lt 'y'",
		"(PartitionKey eq 'x' and RowKey eq 'y') or (PartitionKey eq 'z' and RowKey eq 'y')",
		"PartitionKey eq 'x' and (RowKey eq 'a' or RowKey eq 'z')",
	} {
		f, bad := parseFilter(filter)
		if bad != nil {
			t.Fatal(filter, bad)
		}
		for _, outside := range []string{"a\x00", "p\x00y", "w\x00y", "zz\x00y"} {
			for _, s := range f.spans() {
				if outside >= s.from && s.before([]byte(outside)) {
					t.Errorf("%s: examines %q", filter, outside)
				}
			}
		}
	}
	f, _ := parseFilter("PartitionKey eq 'x' and RowKey ge 'b' and RowKey lt 'c'")
	if got, want := f.spans(), []span{{"x\x00b", "x\x00c"}}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	if _, err := c.AddEntity(deadline(t), row("p", "r", "A", 1, "B", "2", "C", "3"), nil); err != nil {
		t.Fatal(err)
	}
	pager := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Select: ptr("RowKey, B")})
	p, err := pager.NextPage(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	m := decoded(t, p.Entities[0])
	delete(m, "odata.etag")
	if len(m) != 2 || m["RowKey"] != "r" || m["B"] != "2" {
		t.Errorf("got %v, want RowKey and B", m)
	}
}

func TestTimestampsRiseWithEveryWrite(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	fill(t, c, "p", 100)
	last := time.Time{}
	pager := c.NewListEntitiesPager(nil)
	p, err := pager.NextPage(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Entities {
		at, err := time.Parse(time.RFC3339Nano, decoded(t, e)["Timestamp"].(string))
		if err != nil || !at.After(last) {
			t.Fatalf("got %v after %v, %v", at, last, err)
		}
		last = at
	}
}
