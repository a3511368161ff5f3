//go:build unix

package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dsvmpools/agent/source"
	"dsvmpools/shared/job"
)

// A Fetcher lives as long as the agent. Each attempt asks it once for its work tree. The
// error is a sentence for the job's owner, and has lines for the attempt's log. This one is
// not run: it would need git and a network.
func ExampleFetcher_Place() { //nolint:testableexamples // to run it would need git and a network
	node, err := os.MkdirTemp("", "node")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(node)
	fetcher, err := source.New(source.Config{
		Dir:         filepath.Join(node, "sources"),
		Credentials: filepath.Join(node, "credentials"),
		Timeout:     time.Minute,
		CacheSize:   10 * job.Gi,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	tree, err := fetcher.Place(context.Background(), source.Request{
		Source: job.Source{
			Repository: "https://example.com/acme/train.git",
			Commit:     "0123456789abcdef0123456789abcdef01234567",
			Credential: "acme",
		},
		Dir: filepath.Join(node, "attempt", "source"),
		Key: "cpu.vm-1.7",
	})
	var why *source.Error
	switch {
	case errors.As(err, &why):
		fmt.Println(why, why.Details)
	default:
		fmt.Println("the work tree is", tree.Dir)
	}
}

// An attempt starts in its source's path, or in a directory of the job's below that.
func ExampleTree_Workdir() {
	dir, err := os.MkdirTemp("", "tree")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "models", "small"), 0o755); err != nil {
		fmt.Println(err)
		return
	}
	tree := source.Tree{Dir: dir}
	for _, workdir := range []string{"small", "large", "../.."} {
		_, err := tree.Workdir("models", workdir)
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// the source has no directory "models/large"
	// the directory ".." leads out of the source; write a path below it
}
