package client

import (
	"context"
	"math"
	"net/http"
	"time"

	"dsvmpools/shared/wire"
)

// Prices lists what nodes cost: what the pools use first.
func (c *Client) Prices(ctx context.Context) ([]wire.Price, error) {
	return list[wire.Price](ctx, c, "/api/prices", nil, math.MaxInt)
}

// SetPrice sets a price by hand; one that is empty takes that back.
func (c *Client) SetPrice(ctx context.Context, s wire.SetPrice) (p wire.Price, err error) {
	_, err = c.post(ctx, "/api/prices", s, &p)
	return p, err
}

// refreshTime is how long asking for all prices may take: some seconds for each size.
const refreshTime = 4 * time.Minute

// RefreshPrices has the instance ask Azure's price list.
func (c *Client) RefreshPrices(ctx context.Context) (r wire.PricesRefreshed, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: "/api/prices/refresh", timeout: refreshTime}, &r)
	return r, err
}
