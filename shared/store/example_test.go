package store_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	"dsvmpools/local/tables"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
)

// A pool is created by its first commit. A second writer that has an old version
// loses, and loads the pool again.
func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := tables.Start(tables.Config{
		Addr:    "127.0.0.1:0",
		Path:    filepath.Join(dir, "tables.db"),
		Account: "example",
		Key:     base64.StdEncoding.EncodeToString([]byte("a key for one run")),
	})
	if err != nil {
		panic(err)
	}
	defer server.Close()

	ctx := context.Background()
	s, err := store.Open(store.Config{ConnectionString: server.ConnectionString()})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	if err := s.CreateTables(ctx); err != nil {
		panic(err)
	}

	head := pool.Head{Seq: 1, Nonce: "first writer", Spec: pool.Spec{Name: "cpu", Sizes: []string{"Standard_D4s_v5"}}}
	created, err := s.Commit(ctx, "cpu", pool.Version{}, head, nil)
	fmt.Println("created:", err)

	queued := &pool.Job{
		Order: "01KG9A61R00000000000000000",
		ID:    "train",
		State: job.Queued,
		Spec:  job.Spec{Pool: "cpu", Command: []string{"true"}},
	}
	add := []pool.Change{{Key: pool.JobKey(queued.Order), Value: queued, Insert: true}}
	head.Seq, head.Nonce = 2, "second writer"
	_, err = s.Commit(ctx, "cpu", created, head, add)
	fmt.Println("second writer:", err)
	head.Nonce = "third writer"
	_, err = s.Commit(ctx, "cpu", created, head, nil)
	fmt.Println("third writer:", fault.CodeOf(err))

	partition, version, err := s.Load(ctx, "cpu")
	if err != nil {
		panic(err)
	}
	fmt.Println("version", version.Seq, "of", version.Nonce, "has job", partition.Jobs[0].ID)
	// Output:
	// created: <nil>
	// second writer: <nil>
	// third writer: conflict
	// version 2 of second writer has job train
}
