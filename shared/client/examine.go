package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"dsvmpools/shared/wire"
)

// Times of calls that have Azure do something.
const (
	// slowTimeout is longer than the platform lets an answer take.
	slowTimeout = 240 * time.Second
	// reachTimeout bounds one look at an instance from outside. The first request to an app
	// that has slept takes some seconds.
	reachTimeout = 45 * time.Second
)

// Diagnose asks an instance what its deployment lacks. It takes up to two minutes.
func (c *Client) Diagnose(ctx context.Context) ([]wire.Check, error) {
	var rows wire.List[wire.Check]
	err := c.call(ctx, request{method: "GET", path: "/api/doctor", timeout: slowTimeout}, &rows)
	return rows.Items, err
}

// Check asks what Azure would say to a pool of this document (JSON), without making it.
func (c *Client) Check(ctx context.Context, document []byte) ([]wire.Check, error) {
	var rows wire.List[wire.Check]
	err := c.call(ctx, request{method: "POST", path: "/api/pools", query: values("check", "true"), body: document,
		header: http.Header{"Content-Type": {"application/json"}}, timeout: slowTimeout}, &rows)
	return rows.Items, err
}

// Reached is what one request shows about an instance from outside.
type Reached struct {
	Status  int
	Latency time.Duration
	Date    time.Time // of the server's clock; zero = not said
	Expires time.Time // of its certificate; zero = no TLS
}

// Reach asks for the list of pools, with the key or without one, and says how it went. Any
// status is an answer; an error means that there was none. It tries once.
func (c *Client) Reach(ctx context.Context, withKey bool) (Reached, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/pools?limit=1", nil)
	if err != nil {
		return Reached{}, err
	}
	if withKey && c.key != "" {
		q.Header.Set(wire.KeyHeader, c.key)
	}
	began := time.Now()
	response, err := c.http.Do(q)
	if err != nil {
		return Reached{}, &Unreachable{Address: c.base, Err: err}
	}
	response.Body.Close()
	r := Reached{Status: response.StatusCode, Latency: time.Since(began)}
	r.Date, _ = http.ParseTime(response.Header.Get("Date"))
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		r.Expires = response.TLS.PeerCertificates[0].NotAfter
	}
	return r, nil
}

// Console reads the end of a node's serial console.
func (c *Client) Console(ctx context.Context, pool, node string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := c.send(ctx, request{method: "GET", path: nodePath(node) + "/console", query: values("pool", pool)})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	log, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	return log, nil
}
