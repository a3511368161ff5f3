//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/cmd/dsvm/cli"
)

// TestUpWithoutTheFileOfPeople: a file that is not there is a wrong use, and nothing is started.
func TestUpWithoutTheFileOfPeople(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "nothere"): "there is no such file; write one with a line LOGIN:HASH:GROUP,GROUP for each person",
		t.TempDir():                           "it is a folder; name the file with the people",
	} {
		var said bytes.Buffer
		p := &cli.Program{In: strings.NewReader(""), Out: &said, Err: &said, Getenv: os.Getenv}
		code := p.Main(context.Background(), []string{"up", "--data", data, "--users", path}, up)
		const wrongUse = 2
		if got := "dsvm: --users "; code != wrongUse || !strings.HasPrefix(said.String(), got) || !strings.Contains(said.String(), want) {
			t.Errorf("got %d %q, want %q", code, &said, want)
		}
		if _, err := os.Stat(data); err == nil {
			t.Fatal("the instance was begun")
		}
	}
}
