package tables_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/local/tables"
)

// Start opens a store file and serves it; any client of Table Storage can use the
// connection string.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server, err := tables.Start(tables.Config{
		Addr:    "127.0.0.1:0",
		Path:    filepath.Join(dir, "tables.db"),
		Account: "local",
		Key:     base64.StdEncoding.EncodeToString([]byte("a key of this example")),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	service, err := aztables.NewServiceClientFromConnectionString(server.ConnectionString(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if _, err := service.CreateTable(ctx, "pools", nil); err != nil {
		fmt.Println(err)
		return
	}
	pools := service.NewClient("pools")
	if _, err := pools.AddEntity(ctx, []byte(`{"PartitionKey":"cpu","RowKey":"head","Queued":3}`), nil); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("entities written:", server.Stats().EntitiesWritten)
	// Output: entities written: 1
}
