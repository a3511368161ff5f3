package tables

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

const testAccount = "devaccount"

var testKey = base64.StdEncoding.EncodeToString([]byte("the key of a test account, which opens nothing else"))

// serve starts a server of its own for a test.
func serve(t testing.TB, path string) *Server {
	t.Helper()
	s, err := Start(Config{Addr: "127.0.0.1:0", Path: path, Account: testAccount, Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// options let a test see the first answer, not the third.
func options() *aztables.ClientOptions {
	return &aztables.ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
}

func connect(t testing.TB, s *Server) *aztables.ServiceClient {
	t.Helper()
	c, err := aztables.NewServiceClientFromConnectionString(s.ConnectionString(), options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newTable starts a server with one empty table.
func newTable(t testing.TB) (*Server, *aztables.Client) {
	t.Helper()
	s := serve(t, filepath.Join(t.TempDir(), "tables.db"))
	return s, tableOf(t, s, "pools")
}

func tableOf(t testing.TB, s *Server, name string) *aztables.Client {
	t.Helper()
	c := connect(t, s).NewClient(name)
	if _, err := c.CreateTable(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// row is an entity as JSON; pairs are names and values.
func row(partition, rowKey string, pairs ...any) []byte {
	m := map[string]any{"PartitionKey": partition, "RowKey": rowKey}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// got reads an entity as plain JSON values.
func got(t testing.TB, c *aztables.Client, partition, rowKey string) map[string]any {
	t.Helper()
	r, err := c.GetEntity(deadline(t), partition, rowKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, r.Value)
}

func decoded(t testing.TB, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// wantError checks status and code of an answer.
func wantError(t testing.TB, err error, status int, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	if e.StatusCode != status || e.ErrorCode != code {
		t.Fatalf("got %d %s, want %d %s", e.StatusCode, e.ErrorCode, status, code)
	}
}

// list reads all pages of a query and returns the keys, in order.
func list(t testing.TB, c *aztables.Client, o aztables.ListEntitiesOptions) (keys []string, pages int) {
	t.Helper()
	pager := c.NewListEntitiesPager(&o)
	for pager.More() {
		p, err := pager.NextPage(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, e := range p.Entities {
			m := decoded(t, e)
			keys = append(keys, fmt.Sprintf("%v/%v", m["PartitionKey"], m["RowKey"]))
		}
	}
	return keys, pages
}

func filtered(t testing.TB, c *aztables.Client, filter string) []string {
	t.Helper()
	keys, _ := list(t, c, aztables.ListEntitiesOptions{Filter: &filter})
	return keys
}

func ptr[T any](v T) *T { return &v }
