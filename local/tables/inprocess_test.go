package tables

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/local/chaos"
)

// A server that does not listen answers the real client within the process, and keeps
// its rows.
func TestOpenNeedsNoPort(t *testing.T) {
	t.Parallel()
	set := chaos.New(1)
	cfg := Config{Path: filepath.Join(t.TempDir(), "tables.db"), Account: testAccount, Key: testKey, Chaos: set}
	table := func(s *Server) *aztables.Client {
		o := options()
		o.Transport = &http.Client{Transport: s}
		service, err := aztables.NewServiceClientFromConnectionString(s.ConnectionString(), o)
		if err != nil {
			t.Fatal(err)
		}
		return service.NewClient("pools")
	}
	open := func() *Server {
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	c := table(s)
	if _, err := c.CreateTable(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddEntity(deadline(t), row("cpu", "it's a head", "N", 3), nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.AddEntity(deadline(t), row("cpu", "it's a head"), nil)
	wantError(t, err, http.StatusConflict, "EntityAlreadyExists")
	first := row("cpu", "second", "N", 4)
	_, err = c.SubmitTransaction(deadline(t), []aztables.TransactionAction{{ActionType: aztables.TransactionTypeAdd, Entity: first}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr() != "" {
		t.Errorf("it listens at %s", s.Addr())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	if n := got(t, table(s), "cpu", "it's a head")["N"]; n != 3.0 {
		t.Errorf("after it was opened again: got %v, want 3", n)
	}
	if keys := filtered(t, table(s), "N eq 4"); len(keys) != 1 {
		t.Errorf("of the transaction: got %v", keys)
	}
	if _, err := set.Add(chaos.Injection{Do: chaos.Disconnect, Target: "tables/get/pools"}); err != nil {
		t.Fatal(err)
	}
	if _, err := table(s).GetEntity(deadline(t), "cpu", "second", nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a connection that ends: got %v", err)
	}
}
