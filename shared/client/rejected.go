package client

import (
	"context"
	"net/http"
	"net/url"

	"dsvmpools/shared/wire"
)

// Rejected lists at most so many rejected messages, the oldest first.
func (c *Client) Rejected(ctx context.Context, f wire.RejectedFilter, most int) ([]wire.Rejected, error) {
	return list[wire.Rejected](ctx, c, "/api/rejected", values("source", f.Source, "pool", f.Pool, "job", f.Job), most)
}

// RejectedMessage asks for one rejected message.
func (c *Client) RejectedMessage(ctx context.Context, key string) (wire.Rejected, error) {
	var m wire.Rejected
	return m, c.call(ctx, request{method: "GET", path: rejectedPath(key)}, &m)
}

// Resubmit has a rejected message done again, with another document (JSON) unless that is nil.
func (c *Client) Resubmit(ctx context.Context, key string, document []byte) (wire.Resubmitted, error) {
	var out wire.Resubmitted
	r := request{method: "POST", path: rejectedPath(key) + "/resubmit", body: document}
	if document != nil {
		r.header = http.Header{"Content-Type": {"application/json"}}
	}
	return out, c.call(ctx, r, &out)
}

// DeleteRejected removes a rejected message.
func (c *Client) DeleteRejected(ctx context.Context, key string) error {
	return c.call(ctx, request{method: "DELETE", path: rejectedPath(key)}, nil)
}

func rejectedPath(key string) string { return "/api/rejected/" + url.PathEscape(key) }
