package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
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

// SubmitAll sends a list of documents (JSON) in one request, at most wire.MaxJobs of them
// and wire.MaxJobsBytes. Each has an id, which makes it harmless to send the list again. It
// returns in their order what became of each.
func (c *Client) SubmitAll(ctx context.Context, documents [][]byte) ([]wire.Submitted, error) {
	body := slices.Concat([]byte("["), bytes.Join(documents, []byte(",")), []byte("]"))
	var answer wire.List[wire.Submitted]
	header := http.Header{"Content-Type": {"application/json"}}
	err := c.call(ctx, request{method: "POST", path: "/api/jobs", body: body, header: header}, &answer)
	if err == nil && len(answer.Items) != len(documents) {
		err = fmt.Errorf("%s has answered for %d of %d jobs; bring it and this program to one release", c.base, len(answer.Items), len(documents))
	}
	return answer.Items, err
}

// DryRun asks what would become of a job's document (JSON), without submitting it.
func (c *Client) DryRun(ctx context.Context, document []byte) (wire.DryRun, error) {
	var out wire.DryRun
	return out, c.call(ctx, request{method: "POST", path: "/api/jobs", query: values("dryRun", "true"), body: document,
		header: http.Header{"Content-Type": {"application/json"}}}, &out)
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

// Hold keeps a job that waits from starting, and a sweep from beginning more members, until
// it is released.
func (c *Client) Hold(ctx context.Context, id string) (wire.Job, error) {
	var j wire.Job
	return j, c.call(ctx, request{method: "POST", path: jobPath(id) + "/hold"}, &j)
}

// SetPriority gives a job, and the members of a sweep, another place in line.
func (c *Client) SetPriority(ctx context.Context, id string, p job.Priority) (wire.Job, error) {
	var j wire.Job
	body, err := json.Marshal(wire.Priority{Priority: p})
	if err != nil {
		return j, err
	}
	return j, c.call(ctx, request{method: "POST", path: jobPath(id) + "/priority", body: body,
		header: http.Header{"Content-Type": {"application/json"}}}, &j)
}

// Rerun submits the document of a job again, and returns the new job. A call that failed
// is not made again: it may have made a job.
func (c *Client) Rerun(ctx context.Context, id string) (wire.Job, error) {
	var j wire.Job
	return j, c.call(ctx, request{method: "POST", path: jobPath(id) + "/rerun", once: true, body: []byte("{}"),
		header: http.Header{"Content-Type": {"application/json"}}}, &j)
}

// Find asks for jobs by their ids, wire.MaxNamed at most. Those that there are not are left
// out.
func (c *Client) Find(ctx context.Context, ids []string) ([]wire.Job, error) {
	var page wire.JobList
	err := c.call(ctx, request{method: "GET", path: "/api/jobs", query: url.Values{"id": ids}}, &page)
	return page.Items, err
}

// Explain asks why a job is where it is.
func (c *Client) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	var e wire.Explanation
	return e, c.call(ctx, request{method: "GET", path: jobPath(id) + "/explain"}, &e)
}

// JobCost asks what a job has cost until now.
func (c *Client) JobCost(ctx context.Context, id string) (wire.JobCost, error) {
	var cost wire.JobCost
	return cost, c.call(ctx, request{method: "GET", path: jobPath(id) + "/cost"}, &cost)
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

// JobFilter narrows a list of jobs; an empty field stands for any.
type JobFilter = wire.JobFilter

// Jobs lists at most so many jobs, the newest first.
func (c *Client) Jobs(ctx context.Context, f JobFilter, most int) ([]wire.Job, error) {
	l, err := c.ListJobs(ctx, wire.JobQuery{JobFilter: f, Limit: most})
	return l.Items, err
}

// Everything, as the limit of a list, is no bound.
const Everything = everything

// ListJobs lists jobs, at most as many as the query's limit, which may be larger than a
// page. Where the list goes on after these, Continue is set.
func (c *Client) ListJobs(ctx context.Context, q wire.JobQuery) (wire.JobList, error) {
	query := jobValues(q)
	out := wire.JobList{List: wire.NewList([]wire.Job(nil), "")}
	for {
		query.Set("limit", strconv.Itoa(min(q.Limit-len(out.Items), wire.MaxLimit)))
		var page wire.JobList
		if err := c.call(ctx, request{method: "GET", path: "/api/jobs", query: query}, &page); err != nil {
			return out, err
		}
		if page.Total != nil {
			out.Total, out.AtLeast = page.Total, page.AtLeast
		}
		out.Items, out.Continue = append(out.Items, page.Items...), page.Continue
		if page.Continue == "" || len(out.Items) >= q.Limit {
			return out, nil
		}
		query.Set("continue", page.Continue)
		query.Del("count") // once is enough
	}
}

// jobValues are the parameters of a query for jobs, without those of its pages.
func jobValues(q wire.JobQuery) url.Values {
	v := values("pool", q.Pool, "team", q.Team, "user", q.User, "sweep", q.Sweep, "name", q.Name,
		"since", timeText(q.Since), "until", timeText(q.Until), "sort", string(q.Sort), "continue", q.Continue)
	for _, state := range q.States {
		v.Add("state", string(state))
	}
	for name, value := range q.Labels {
		v.Add("label", name+"="+value)
	}
	if q.Reverse {
		v.Set("reverse", "true")
	}
	if q.Short {
		v.Set("fields", "list")
	}
	if q.Count {
		v.Set("count", "true")
	}
	return v
}

// timeText is a time as a parameter; "" = none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
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

// PlanApply asks what Apply would change and end.
func (c *Client) PlanApply(ctx context.Context, document []byte) (wire.PoolPlan, error) {
	var plan wire.PoolPlan
	return plan, c.call(ctx, request{method: "POST", path: "/api/pools", query: values("dryRun", "true"), body: document,
		header: http.Header{"Content-Type": {"application/json"}}}, &plan)
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

func nodePath(node string) string { return "/api/nodes/" + url.PathEscape(node) }

func (c *Client) tellNode(ctx context.Context, method, pool, node, verb string) (wire.Node, error) {
	var n wire.Node
	return n, c.call(ctx, request{method: method, path: nodePath(node) + verb, query: values("pool", pool)}, &n)
}

// Usage asks for a report, with at most so many lines; 0 = all. Zero times leave the choice to
// the server.
func (c *Client) Usage(ctx context.Context, q usage.Query, most int) (wire.UsageReport, error) {
	query := values("by", string(q.By), "sort", string(q.Order), "from", instantText(q.From), "to", instantText(q.To),
		"pool", q.Filter.Pool, "team", q.Filter.Team, "user", q.Filter.User)
	for _, name := range slices.Sorted(maps.Keys(q.Filter.Labels)) {
		query.Add("label", name+"="+q.Filter.Labels[name])
	}
	if most == 0 {
		most = everything
	}
	report := wire.UsageReport{Items: []wire.UsageGroup{}}
	for {
		query.Set("limit", strconv.Itoa(min(most-len(report.Items), wire.MaxLimit)))
		var page wire.UsageReport
		if err := c.call(ctx, request{method: "GET", path: "/api/usage", query: query}, &page); err != nil {
			return report, err
		}
		page.Items = append(report.Items, page.Items...)
		if report = page; report.Continue == "" || len(report.Items) >= most {
			return report, nil
		}
		query.Set("continue", report.Continue)
	}
}

// RebuildSums has the sums of days built again from the rows of the ledger; zero times are no
// bounds.
func (c *Client) RebuildSums(ctx context.Context, q wire.SumsQuery) (wire.SumsRebuilt, error) {
	query := values("from", instantText(q.From), "to", instantText(q.To))
	var all wire.SumsRebuilt
	for {
		var some wire.SumsRebuilt
		if err := c.call(ctx, request{method: "POST", path: "/api/usage/rebuild", query: query}, &some); err != nil {
			return all, err
		}
		all.Days, all.Rows, all.To = all.Days+some.Days, all.Rows+some.Rows, some.To
		if some.To == nil {
			return all, nil
		}
		query.Set("to", instantText(*some.To))
	}
}

// CheckSums has the sums of days compared with the rows of the ledger; zero times are no bounds.
func (c *Client) CheckSums(ctx context.Context, q wire.SumsQuery) (wire.SumsChecked, error) {
	query := values("from", instantText(q.From), "to", instantText(q.To))
	all := wire.SumsChecked{Differences: []wire.SumsDifference{}}
	for {
		var some wire.SumsChecked
		if err := c.call(ctx, request{method: "GET", path: "/api/usage/check", query: query}, &some); err != nil {
			return all, err
		}
		all.Days, all.Rows, all.To = all.Days+some.Days, all.Rows+some.Rows, some.To
		all.Differences = append(all.Differences, some.Differences...)
		if some.To == nil {
			return all, nil
		}
		query.Set("to", instantText(*some.To))
	}
}

// instantText writes a time for a query; "" for none.
func instantText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
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
