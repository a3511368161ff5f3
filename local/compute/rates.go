//go:build unix

package compute

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// rate is the size of a token bucket (burst), and its refill per minute.
type rate struct{ refill, burst float64 }

// group is a group of operations with common limits: per resource, and per subscription.
type group struct {
	name                   string
	resource, subscription rate // a resource's burst of 0 = it is not limited
}

// The published limits of Compute, per minute and region, and those of the
// resource manager itself, per principal.
var (
	groups = map[string]group{
		"create":          {"PutVMScaleSet", rate{4, 12}, rate{125, 375}},
		"update":          {"UpdateVMScaleSet", rate{4, 12}, rate{500, 1500}},
		"delete":          {"DeleteVMScaleSet", rate{4, 12}, rate{175, 525}},
		"get":             {"GetVMScaleSet", rate{12, 36}, rate{800, 2400}},
		"list":            {"ListVMScaleSetVMs", rate{}, rate{360, 1080}},
		"deleteInstances": {"VMScaleSetBatchedVMRequests", rate{}, rate{500, 1500}},
		"deleteInstance":  {"VMScaleSetBatchedVMRequests", rate{}, rate{500, 1500}},
		"operation":       {"GetOperation", rate{15, 45}, rate{5000, 15000}},
	}
	managerRates = map[string]rate{"reads": {25 * 60, 250}, "writes": {10 * 60, 200}, "deletes": {10 * 60, 200}}
)

// policyNames of the operations that an injection may throttle.
var policyNames = map[string]string{
	"put":             "PutVMScaleSet",
	"patch":           "UpdateVMScaleSet",
	"delete":          "DeleteVMScaleSet",
	"get":             "GetVMScaleSet",
	"list":            "ListVMScaleSetVMs",
	"deleteInstances": "VMScaleSetBatchedVMRequests",
	"deleteInstance":  "VMScaleSetBatchedVMRequests",
	"operation":       "GetOperation",
}

// maxBuckets bounds the buckets in memory. A full bucket can be removed.
const maxBuckets = 10000

type bucket struct {
	rate
	tokens float64
	at     time.Time
}

// fill returns how many tokens the bucket has at a time.
func (b *bucket) fill(now time.Time) float64 {
	return min(b.burst, b.tokens+now.Sub(b.at).Minutes()*b.refill)
}

// buckets are the token buckets by name. The server's lock guards them.
type buckets map[string]*bucket

// take takes a charge out of a bucket and returns the tokens that remain. If there are too
// few, it takes none and returns how long the caller must wait. A charge above the burst
// takes the whole bucket.
func (all buckets) take(name string, r rate, charge float64, now time.Time) (left int, wait time.Duration) {
	b := all[name]
	if b == nil {
		if len(all) >= maxBuckets {
			for key, old := range all {
				if old.fill(now) >= old.burst {
					delete(all, key)
				}
			}
		}
		b = &bucket{rate: r, tokens: r.burst}
		all[name] = b
	}
	b.tokens, b.at = b.fill(now), now
	charge = min(charge, b.burst)
	if b.tokens < charge {
		return 0, time.Duration((charge - b.tokens) / b.refill * float64(time.Minute))
	}
	b.tokens -= charge
	return int(b.tokens), 0
}

// limitManager charges a request to the resource manager's own buckets.
func (s *Server) limitManager(w http.ResponseWriter, method string) error {
	if !s.cfg.CloudRates {
		return nil
	}
	kind := map[string]string{http.MethodGet: "reads", http.MethodDelete: "deletes"}[method]
	if kind == "" {
		kind = "writes"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left, wait := s.rates.take("manager/"+kind, managerRates[kind], 1, time.Now())
	w.Header().Set("x-ms-ratelimit-remaining-subscription-"+kind, fmt.Sprint(left))
	if wait > 0 {
		f := failure("SubscriptionRequestsThrottled")
		f.RetryAfter = wait
		return f
	}
	return nil
}

// limit charges a call to Compute's buckets. The lock is held.
func (s *Server) limit(w http.ResponseWriter, operation, resource string, charge int) error {
	if !s.cfg.CloudRates {
		return nil
	}
	g, now := groups[operation], time.Now()
	var remaining []string
	var wait time.Duration
	for _, b := range []struct {
		suffix, of string
		rate       rate
	}{{"SubscriptionMaximum", "", g.subscription}, {"Resource", strings.ToLower(resource), g.resource}} {
		if b.rate.burst == 0 || wait > 0 {
			continue
		}
		left, waitHere := s.rates.take(g.name+b.suffix+"/"+b.of, b.rate, float64(charge), now)
		wait = max(wait, waitHere)
		remaining = append(remaining, fmt.Sprintf("Microsoft.Compute/%s%s;%d", g.name, b.suffix, left))
	}
	w.Header().Set("x-ms-ratelimit-remaining-resource", strings.Join(remaining, ","))
	w.Header().Set("x-ms-request-charge", fmt.Sprint(charge))
	if wait == 0 {
		return nil
	}
	f := throttled("", wait)
	f.Details[0].Target, f.Details[0].Message = g.name, `{"operationGroup":"`+g.name+`"}`
	return f
}
