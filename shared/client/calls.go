package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// Submit sends a job's document (JSON) under an id, which makes it harmless to
// send it again.
func (c *Client) Submit(ctx context.Context, id string, document []byte) (wire.Job, error) {
	var j wire.Job
	err := c.call(ctx, request{method: "POST", path: "/api/jobs", body: document, header: http.Header{
		"Content-Type": {"application/json"}, wire.IdempotencyHeader: {id},
	}}, &j)
	return j, err
}

// Job asks for one job.
func (c *Client) Job(ctx context.Context, id string) (wire.Job, error) {
	var j wire.Job
	return j, c.call(ctx, request{method: "GET", path: jobPath(id)}, &j)
}

// Cancel asks for a job to end.
func (c *Client) Cancel(ctx context.Context, id string) (wire.Job, error) {
	var j wire.Job
	return j, c.call(ctx, request{method: "POST", path: jobPath(id) + "/cancel"}, &j)
}

// Release lets a job or a sweep go on that is held.
func (c *Client) Release(ctx context.Context, id string) (wire.Job, error) {
	var j wire.Job
	return j, c.call(ctx, request{method: "POST", path: jobPath(id) + "/release"}, &j)
}

// Explain asks why a job is where it is.
func (c *Client) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	var e wire.Explanation
	return e, c.call(ctx, request{method: "GET", path: jobPath(id) + "/explain"}, &e)
}

// ExplainPool asks why a pool has the size it has.
func (c *Client) ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error) {
	var e wire.PoolExplanation
	return e, c.call(ctx, request{method: "GET", path: poolPath(name) + "/explain"}, &e)
}

// Resume has a pool ask for nodes again that did not come up, or were refused.
func (c *Client) Resume(ctx context.Context, name string) (wire.Pool, error) {
	var p wire.Pool
	return p, c.call(ctx, request{method: "POST", path: poolPath(name) + "/resume"}, &p)
}

func jobPath(id string) string { return "/api/jobs/" + url.PathEscape(id) }

// CancelAll asks all jobs of a user or a team to end.
func (c *Client) CancelAll(ctx context.Context, f JobFilter) (wire.Cancelled, error) {
	var out wire.Cancelled
	return out, c.call(ctx,
		request{method: "POST", path: "/api/jobs/cancel", query: values("pool", f.Pool, "team", f.Team, "user", f.User)}, &out)
}

// JobFilter narrows a list of jobs; "" stands for any.
type JobFilter struct {
	Pool, Team, User string
	State            job.State
	Sweep            string // id of the sweep whose members to list
}

// Jobs lists at most so many jobs, newest first within a pool.
func (c *Client) Jobs(ctx context.Context, f JobFilter, most int) ([]wire.Job, error) {
	return list[wire.Job](ctx, c, "/api/jobs",
		values("pool", f.Pool, "team", f.Team, "user", f.User, "state", string(f.State), "sweep", f.Sweep), most)
}

// Pools lists all pools.
func (c *Client) Pools(ctx context.Context) ([]wire.Pool, error) {
	return list[wire.Pool](ctx, c, "/api/pools", nil, everything)
}

// Pool asks for one pool.
func (c *Client) Pool(ctx context.Context, name string) (wire.Pool, error) {
	var p wire.Pool
	return p, c.call(ctx, request{method: "GET", path: poolPath(name)}, &p)
}

// Apply creates a pool or changes it to the document (JSON).
func (c *Client) Apply(ctx context.Context, document []byte) (wire.Pool, error) {
	var p wire.Pool
	return p, c.call(ctx, request{method: "POST", path: "/api/pools", body: document,
		header: http.Header{"Content-Type": {"application/json"}}}, &p)
}

// Delete begins to delete a pool. The pool it returns is as it is on its way
// out; it has no name when it went at once.
func (c *Client) Delete(ctx context.Context, name string) (wire.Pool, error) {
	var p wire.Pool
	return p, c.call(ctx, request{method: "DELETE", path: poolPath(name)}, &p)
}

func poolPath(name string) string { return "/api/pools/" + url.PathEscape(name) }

// Nodes lists the nodes of a pool, or of all for "".
func (c *Client) Nodes(ctx context.Context, pool string) ([]wire.Node, error) {
	return list[wire.Node](ctx, c, "/api/nodes", values("pool", pool), everything)
}

// ReleaseNode has a node take work again, as if nothing stood against it. A node is
// named by its name or its id.
func (c *Client) ReleaseNode(ctx context.Context, pool, node string) (wire.Node, error) {
	return c.tellNode(ctx, "POST", pool, node, "/release")
}

// DrainNode gives a node no more work, and lets it leave when what it has is over.
func (c *Client) DrainNode(ctx context.Context, pool, node string) (wire.Node, error) {
	return c.tellNode(ctx, "POST", pool, node, "/drain")
}

// DeleteNode deletes a node now; what runs there goes back in line.
func (c *Client) DeleteNode(ctx context.Context, pool, node string) (wire.Node, error) {
	return c.tellNode(ctx, "DELETE", pool, node, "")
}

func (c *Client) tellNode(ctx context.Context, method, pool, node, verb string) (wire.Node, error) {
	var n wire.Node
	return n, c.call(ctx, request{method: method, path: "/api/nodes/" + url.PathEscape(node) + verb, query: values("pool", pool)}, &n)
}

// Usage asks for a report. Zero times leave the choice to the server.
func (c *Client) Usage(ctx context.Context, by string, from, to time.Time) ([]wire.UsageGroup, error) {
	text := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	return list[wire.UsageGroup](ctx, c, "/api/usage", values("by", by, "from", text(from), "to", text(to)), everything)
}

// everything is no bound on the length of a list.
const everything = int(^uint(0) >> 1)

// list follows the pages of a list until there are enough items.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, most int) ([]T, error) {
	items := []T{}
	if query == nil {
		query = url.Values{}
	}
	for {
		query.Set("limit", strconv.Itoa(min(most-len(items), wire.MaxLimit)))
		var page wire.List[T]
		if err := c.call(ctx, request{method: "GET", path: path, query: query}, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Continue == "" || len(items) >= most {
			return items, nil
		}
		query.Set("continue", page.Continue)
	}
}

// values makes a query of names and values, leaving out what is empty.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// Rules lists all rules for pushes.
func (c *Client) Rules(ctx context.Context) ([]wire.Rule, error) {
	return list[wire.Rule](ctx, c, "/api/rules", nil, everything)
}

// Rule asks for one rule.
func (c *Client) Rule(ctx context.Context, name string) (wire.Rule, error) {
	var r wire.Rule
	return r, c.call(ctx, request{method: "GET", path: rulePath(name)}, &r)
}

// ApplyRules creates rules or changes them to a document (JSON), and returns
// those of the document.
func (c *Client) ApplyRules(ctx context.Context, document []byte) ([]wire.Rule, error) {
	var applied wire.List[wire.Rule]
	err := c.call(ctx, request{method: "POST", path: "/api/rules", body: document,
		header: http.Header{"Content-Type": {"application/json"}}}, &applied)
	return applied.Items, err
}

// DeleteRule removes a rule.
func (c *Client) DeleteRule(ctx context.Context, name string) error {
	return c.call(ctx, request{method: "DELETE", path: rulePath(name)}, nil)
}

func rulePath(name string) string { return "/api/rules/" + url.PathEscape(name) }
