package client

import (
	"context"

	"dsvmpools/shared/wire"
)

// Me asks who calls.
func (c *Client) Me(ctx context.Context) (wire.Me, error) {
	var m wire.Me
	return m, c.call(ctx, request{method: "GET", path: "/api/me"}, &m)
}

// SignIn asks where people sign in. It needs neither a key nor a token.
func (c *Client) SignIn(ctx context.Context) (wire.SignIn, error) {
	var s wire.SignIn
	return s, c.call(ctx, request{method: "GET", path: signedInPrefix + "/api/signin"}, &s)
}

// Audit lists at most so many requests that changed something, the newest first.
func (c *Client) Audit(ctx context.Context, q wire.AuditQuery) ([]wire.AuditEntry, error) {
	return list[wire.AuditEntry](ctx, c, "/api/audit",
		values("user", q.User, "target", q.Target, "since", timeText(q.Since), "until", timeText(q.Until)), q.Limit)
}
