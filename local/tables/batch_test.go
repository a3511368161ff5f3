package tables

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

type actions []aztables.TransactionAction

func add(e []byte) aztables.TransactionAction {
	return aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: e}
}

// wantFailed checks how a transaction failed; the client tells it only in the
// body of an answer that says 202.
func wantFailed(t testing.TB, err error, status int, code string, index int) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a failed transaction", err)
	}
	body, err := io.ReadAll(e.RawResponse.Body)
	if err != nil {
		t.Fatal(err)
	}
	if e.StatusCode != http.StatusAccepted {
		t.Fatalf("got status %d outside, want 202: %s", e.StatusCode, body)
	}
	for _, want := range []string{fmt.Sprintf("HTTP/1.1 %d ", status), fmt.Sprintf(`"code":"%s"`, code), fmt.Sprintf(`"value":"%d:`, index)} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%q is missing in %s", want, body)
		}
	}
}

// answers takes the inner replies out of the answer to a transaction.
func answers(t testing.TB, r *http.Response) (out []*http.Response) {
	t.Helper()
	body, err := runtime.Payload(r)
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	outer, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).NextPart()
	if err != nil {
		t.Fatal(err)
	}
	_, params, err = mime.ParseMediaType(outer.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	inner := multipart.NewReader(outer, params["boundary"])
	for {
		p, err := inner.NextPart()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(content)), nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
}

func TestTransactionTellsETags(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	for _, r := range []string{"merge", "replace", "delete"} {
		if _, err := c.AddEntity(deadline(t), row("p", r, "A", "1", "B", "1"), nil); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.GetEntity(deadline(t), "p", "replace", nil)
	if err != nil {
		t.Fatal(err)
	}
	var raw *http.Response
	ctx := policy.WithCaptureResponse(deadline(t), &raw)
	_, err = c.SubmitTransaction(ctx, actions{
		add(row("p", "add", "A", "2")),
		{ActionType: aztables.TransactionTypeUpdateMerge, Entity: row("p", "merge", "A", "2"), IfMatch: ptr(azcore.ETagAny)},
		{ActionType: aztables.TransactionTypeUpdateReplace, Entity: row("p", "replace", "A", "2"), IfMatch: &before.ETag},
		{ActionType: aztables.TransactionTypeInsertMerge, Entity: row("p", "upsert", "A", "2")},
		{ActionType: aztables.TransactionTypeInsertReplace, Entity: row("p", "upsert2", "A", "2")},
		{ActionType: aztables.TransactionTypeDelete, Entity: row("p", "delete")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	replies := answers(t, raw)
	rows := []string{"add", "merge", "replace", "upsert", "upsert2", ""}
	if len(replies) != len(rows) {
		t.Fatalf("got %d replies, want %d", len(replies), len(rows))
	}
	for i, r := range rows {
		if replies[i].StatusCode != http.StatusNoContent {
			t.Errorf("%d: got status %d, want 204", i, replies[i].StatusCode)
		}
		if r == "" {
			continue
		}
		now, err := c.GetEntity(deadline(t), "p", r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := replies[i].Header.Get("ETag"); got != string(now.ETag) {
			t.Errorf("%s: got ETag %q in the answer, want %q", r, got, now.ETag)
		}
		if m := decoded(t, now.Value); m["A"] != "2" || (m["B"] == "1") != (r == "merge") {
			t.Errorf("%s: got %v", r, m)
		}
	}
	_, err = c.GetEntity(deadline(t), "p", "delete", nil)
	wantError(t, err, 404, "ResourceNotFound")
	if got := s.Stats(); got.Transactions != 1 || got.EntitiesWritten != 9 {
		t.Errorf("got %+v, want 1 transaction and 9 entities written", got)
	}
}

func TestTransactionFailsAsAWhole(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	old, err := c.AddEntity(deadline(t), row("p", "there", "A", "1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpsertEntity(deadline(t), row("p", "there", "A", "2"), nil); err != nil {
		t.Fatal(err)
	}
	first := func(rest ...aztables.TransactionAction) actions {
		return append(actions{add(row("p", "new1")), add(row("p", "new2")), add(row("p", "new3"))}, rest...)
	}
	hundred := first()
	for i := range 98 {
		hundred = append(hundred, add(row("p", fmt.Sprint(i))))
	}
	for _, test := range []struct {
		name    string
		actions actions
		status  int
		code    string
		index   int
	}{
		{"insert of what is there", first(add(row("p", "there"))), 409, "EntityAlreadyExists", 3},
		{"stale ETag", first(aztables.TransactionAction{ActionType: aztables.TransactionTypeUpdateMerge, Entity: row("p", "there"), IfMatch: &old.ETag}), 412, "UpdateConditionNotSatisfied", 3},
		{"change of what is not there", first(aztables.TransactionAction{ActionType: aztables.TransactionTypeUpdateReplace, Entity: row("p", "none"), IfMatch: ptr(azcore.ETagAny)}), 404, "ResourceNotFound", 3},
		{"delete of what is not there", first(aztables.TransactionAction{ActionType: aztables.TransactionTypeDelete, Entity: row("p", "none")}, add(row("p", "x"))), 404, "ResourceNotFound", 3},
		{"another partition", first(add(row("q", "new4"))), 400, "CommandsInBatchActOnDifferentPartitions", 3},
		{"an entity twice", first(add(row("p", "new1"))), 400, "InvalidDuplicateRow", 3},
		{"an entity that breaks a limit", first(add(row("p", "x", "A", strings.Repeat("x", 33<<10)))), 400, "PropertyValueTooLarge", 3},
		{"a name that is none", actions{add(row("p", "x", "a-b", 1))}, 400, "PropertyNameInvalid", 0},
		{"101 operations", hundred, 400, "InvalidInput", 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.SubmitTransaction(deadline(t), test.actions, nil)
			wantFailed(t, err, test.status, test.code, test.index)
			if got, want := filtered(t, c, ""), []string{"p/there"}; len(got) != 1 {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	missing := connect(t, mustServer(t)).NewClient("none")
	_, err = missing.SubmitTransaction(deadline(t), actions{add(row("p", "r"))}, nil)
	wantFailed(t, err, 404, "TableNotFound", 0)
}

func mustServer(t *testing.T) *Server {
	s, _ := newTable(t)
	return s
}

func TestTransactionOf100(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	fill(t, c, "p", 100)
	if got := len(filtered(t, c, "PartitionKey eq 'p'")); got != 100 {
		t.Errorf("got %d rows, want 100", got)
	}
	if got := s.Stats(); got.Transactions != 1 || got.EntitiesWritten != 100 {
		t.Errorf("got %+v", got)
	}
}

func TestTransactionAbove4MiB(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	var a actions
	for i := range 5 {
		pairs := []any{}
		for p := range 15 {
			pairs = append(pairs, fmt.Sprintf("P%d", p), strings.Repeat("ß", 30<<10))
		}
		a = append(a, add(row("p", fmt.Sprint(i), pairs...)))
	}
	_, err := c.SubmitTransaction(deadline(t), a, nil)
	var e *azcore.ResponseError
	if err == nil || errors.As(err, &e) && e.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %v, want a refusal for its size", err)
	}
	if got := filtered(t, c, ""); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

// TestTransactionIsSeenWhole reads while others write: a reader sees all rows
// of a transaction with one number, or all with another.
func TestTransactionIsSeenWhole(t *testing.T) {
	t.Parallel()
	_, c := newTable(t)
	write := func(n int) error {
		var a actions
		for i := range 20 {
			a = append(
				a,
				aztables.TransactionAction{ActionType: aztables.TransactionTypeInsertReplace, Entity: row("p", fmt.Sprint(i), "N", n)},
			)
		}
		_, err := c.SubmitTransaction(context.Background(), a, nil)
		return err
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for n := 1; n < 50; n++ {
			if err := write(n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		pager := c.NewListEntitiesPager(nil)
		p, err := pager.NextPage(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entities {
			if got, want := decoded(t, e)["N"], decoded(t, p.Entities[0])["N"]; got != want {
				t.Fatalf("rows of two transactions are mixed: %v and %v", got, want)
			}
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
