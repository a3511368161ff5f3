package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAttemptThatWroteNothing: an attempt that has written nothing has no directory on the
// share. Its logs and its output are empty, and that is no error.
func TestAttemptThatWroteNothing(t *testing.T) {
	t.Parallel()
	for args, out := range map[string]string{
		"job logs first":                   "",
		"job logs first --stderr --tail 3": "",
		"job logs first --since 1h":        "",
		"job logs first --attempt 1":       "",
		"job logs first first":             "",
		"ls job:first -o json":             "[]\n",
		"ls job:first:1 -o json":           "[]\n",
		"cp -r job:first FOLDER":           "",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			folder := filepath.Join(t.TempDir(), "out")
			code, got, errs := b.run(strings.Fields(strings.ReplaceAll(args, "FOLDER", folder))...)
			if code != 0 || out != "" && got != out || out == "" && strings.Contains(args, "logs") && got+errs != "" {
				t.Errorf("got %d %q %q", code, got, errs)
			}
			if all, err := os.ReadDir(folder); strings.HasPrefix(args, "cp") && (err != nil || len(all) > 0) {
				t.Errorf("got %v, %v; want an empty folder", all, err)
			}
		})
	}
}
