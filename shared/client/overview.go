package client

import (
	"context"

	"dsvmpools/shared/wire"
)

// Troubles lists what a person must do something about.
func (c *Client) Troubles(ctx context.Context) ([]wire.Trouble, error) {
	var all wire.List[wire.Trouble]
	err := c.call(ctx, request{method: "GET", path: "/api/troubles"}, &all)
	return all.Items, err
}
