//go:build unix

package door

import (
	"os"
	"path/filepath"
	"testing"
)

// A door whose folder is gone has no session, so that it ends, and costs nothing at the relay.
func TestFolderIsGone(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	if err := os.RemoveAll(filepath.Join(n.dir, "doors")); err != nil {
		t.Fatal(err)
	}
	n.awaitListeners(0)
}
