package fleet

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
)

// Azure refuses a request for ten nodes as a whole when the quota has room for nine.
// Most refusals of scale sets are for quota. So the client reads the quota before it
// requests nodes, and its own refusal says how many nodes are possible. The quota
// lags, and others use it too: a quota that cannot be read stops no request.

// Names of quotas that every region has.
const (
	quotaTotal = "cores"            // of all regular VMs
	quotaSpot  = "lowPriorityCores" // of all Spot VMs, which count in no other
)

// quotaTimeout is short: nodes are waited for.
const quotaTimeout = 5 * time.Second

// quotaRight is what reading quotas needs, on the subscription: a role on a resource group
// does not give it.
const quotaRight = "Microsoft.Compute/locations/usages/read"

var sizeParts = regexp.MustCompile(`(?i)^Standard_([A-Z]+)[0-9]+(?:-[0-9]+)?([a-z]*)((?:_[A-Z0-9]+?)*?)(_v[0-9]+)?$`)

// family is the name of the quota of a size's family, as most families have it:
// standardDSv5Family for Standard_D2s_v5. Those that are called otherwise are not
// found, and refused by the service itself.
func family(size string) string {
	p := sizeParts.FindStringSubmatch(size)
	if p == nil {
		return ""
	}
	return "standard" + strings.ToUpper(p[1]+p[2]) + strings.ReplaceAll(p[3]+p[4], "_", "") + "Family"
}

// quota is a limit on cores.
type quota struct {
	name        string // as people know it
	used, limit int64
}

func (q quota) String() string {
	return fmt.Sprintf("%s: %d of %d cores in use", q.name, q.used, q.limit)
}

// left is how many instances of so many cores it allows.
func (q quota) left(cpus int) int { return int(max(q.limit-q.used, 0)) / cpus }

// quotas reads those that count for a model's instances; what cannot be read is
// left out.
func (c *Client) quotas(ctx context.Context, m Model) []quota {
	if m.CPUs == 0 {
		return nil
	}
	found, err := c.readQuotas(ctx, m)
	if err != nil { // stops no request
		c.logQuotaFailure(err)
	}
	return found
}

// readQuotas reads those that count for a model's instances. With an error it returns
// those that it has found before.
func (c *Client) readQuotas(ctx context.Context, m Model) ([]quota, error) {
	names := []string{quotaTotal, family(m.Size)}
	if m.Spot {
		names = []string{quotaSpot}
	}
	ctx, cancel := context.WithTimeout(ctx, quotaTimeout)
	defer cancel()
	var found []quota
	for pager := c.usage.NewListPager(m.Region, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return found, err
		}
		for _, u := range page.Value {
			if u == nil || u.Name == nil || u.CurrentValue == nil || u.Limit == nil {
				continue
			}
			if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, value(u.Name.Value)) }) {
				found = append(found, quota{cmp.Or(value(u.Name.LocalizedValue), value(u.Name.Value)), int64(*u.CurrentValue), *u.Limit})
			}
		}
	}
	return found, nil
}

// logQuotaFailure says once that quotas cannot be read: each request for nodes reads them.
func (c *Client) logQuotaFailure(err error) {
	if c.cfg.Log == nil || !c.quotaFailed.CompareAndSwap(false, true) {
		return
	}
	if isStatus(err, http.StatusForbidden) || isStatus(err, http.StatusUnauthorized) {
		c.cfg.Log.Warn("reading quotas failed; requests for nodes do not look at them, and Azure refuses what is too much as a whole",
			"missing", quotaRight, "scope", "/subscriptions/"+c.cfg.SubscriptionID, "error", err)
		return
	}
	c.cfg.Log.Warn("reading quotas failed; requests for nodes do not look at them while it does", "error", err)
}

// foresee refuses more instances than the quotas allow.
func foresee(quotas []quota, m Model, more int) error {
	for _, q := range quotas {
		if left := q.left(m.CPUs); left < more && !slices.ContainsFunc(quotas, func(o quota) bool { return o.left(m.CPUs) < left }) {
			return &fault.Error{
				Code: fault.NoQuota,
				Left: &left,
				Message: fmt.Sprintf(
					"the quota %s allows %d more %s: %d of %d cores are in use, and each takes %d; ask for a "+
						"higher limit under Quotas in the portal, or name other sizes in the pool",
					q.name, left, m.Size, q.used, q.limit, m.CPUs),
			}
		}
	}
	return nil
}
