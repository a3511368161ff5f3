package store

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/shared/store/table"
)

// accessPartition is a partition of the ids that no id is in.
const accessPartition = "access"

// TestAccess writes a row, reads it and deletes it again, and so shows that the tables can be
// used. It returns the service's own time, zero if its answer has none.
func (s *Store) TestAccess(ctx context.Context) (at time.Time, err error) {
	const what = "test the access to the tables"
	row := rand.Text()
	if err := s.IDs.table.Insert(ctx, what, table.KeysOnly(accessPartition, row)); err != nil {
		return time.Time{}, err
	}
	var response *http.Response
	_, etag, reading := s.IDs.table.Get(policy.WithCaptureResponse(ctx, &response), what, accessPartition, row)
	if response != nil {
		at, _ = http.ParseTime(response.Header.Get("Date")) // a proxy may leave it out
	}
	if reading != nil {
		etag = table.Any
	}
	if err := s.IDs.table.Delete(context.WithoutCancel(ctx), what, accessPartition, row, etag); err != nil && reading == nil {
		return at, err
	}
	return at, reading
}
