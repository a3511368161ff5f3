package tables

import (
	"path/filepath"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	s := serve(t, path)
	c := tableOf(t, s, "pools")
	fill(t, c, "p", 150)
	last, err := c.UpsertEntity(deadline(t), row("p", "00000", "N", -1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddEntity(deadline(t), row("p", "late"), nil); err == nil {
		t.Error("a closed server must not answer")
	}
	s = serve(t, path)
	c = connect(t, s).NewClient("pools")
	if got := len(filtered(t, c, "")); got != 150 {
		t.Errorf("got %d rows, want 150", got)
	}
	next, err := c.UpdateEntity(
		deadline(t),
		row("p", "00000", "N", -2),
		&aztables.UpdateEntityOptions{IfMatch: &last.ETag, UpdateMode: aztables.UpdateModeReplace},
	)
	if err != nil {
		t.Fatal(err)
	}
	if next.ETag <= last.ETag {
		t.Errorf("got ETag %s after %s, want a later one", next.ETag, last.ETag)
	}
}

// TestTimeGoesOnAfterRestart starts on a store whose last write lies in the
// future, as when the clock was set back.
func TestTimeGoesOnAfterRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	s := serve(t, path)
	s.clock.last += 3600 * ticksPerSecond * 24 * 365
	future := s.clock.last
	c := tableOf(t, s, "pools")
	before, err := c.AddEntity(deadline(t), row("p", "r"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = serve(t, path)
	after, err := connect(t, s).NewClient("pools").UpsertEntity(deadline(t), row("p", "r"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if future == 0 || after.ETag <= before.ETag {
		t.Errorf("got ETag %s after %s, want a later one", after.ETag, before.ETag)
	}
}
