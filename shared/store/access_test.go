package store

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/store/table"
)

// A test of access leaves nothing behind, says what the service's clock shows, and what is
// missing.
func TestAccessToTables(t *testing.T) {
	t.Parallel()
	line, s := newRefusingLine(t)
	at, err := s.TestAccess(deadline(t))
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("got %s (%v), want now", at, err)
	}
	_, err = s.IDs.table.Scan(deadline(t), "look", table.Query{Filter: "PartitionKey eq 'access'"}, func(raw []byte) error {
		t.Errorf("it left %s", raw)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	line.refuseAll.Store(true)
	if _, err := s.TestAccess(deadline(t)); err == nil || !strings.Contains(err.Error(), "Storage Table Data Contributor") {
		t.Errorf("got %v, want the role that is missing", err)
	}
}
