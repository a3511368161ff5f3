// Command conformance holds the local Table Storage against what others wrote:
// the test suite of the client, aztables, and Azurite, which answers the same
// requests beside it. It is a module of its own, so that what it needs is no
// dependency of the project. It never speaks to Azure.
//
//	go run .          the client's own tests for Table Storage
//	go run . azurite  the same operations to Azurite, and what differs
//	go run . bench    both servers' speed, in one run
//
// The last two install Azurite with npm, once, into the user's cache folder.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"dsvmpools/local/tables"
)

// limit ends a run that hangs.
const limit = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	what := ""
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	var ok bool
	var err error
	switch what {
	case "":
		ok, err = runSuite(ctx)
	case "azurite":
		ok, err = runDifferences(ctx)
	case "bench":
		ok, err = runBench(ctx)
	default:
		err = fmt.Errorf("there is no %q; say nothing, azurite or bench", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		stop()
		cancel()
		os.Exit(1)
	}
}

const account = "conformance"

var key = base64.StdEncoding.EncodeToString([]byte("the key of an account that exists for one run only"))

// startLocal starts the local tables in a folder that is removed afterwards.
func startLocal() (*tables.Server, func(), error) {
	dir, err := os.MkdirTemp("", "tables-conformance-")
	if err != nil {
		return nil, nil, err
	}
	s, err := tables.Start(tables.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "tables.db"), Account: account, Key: key})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return s, func() {
		s.Close()
		os.RemoveAll(dir)
	}, nil
}

// verdict prints the closing line.
func verdict(passed, failed int) bool {
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return failed == 0
}
