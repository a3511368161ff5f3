package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"dsvmpools/shared/fault"
)

func isStatus(err error, status int) bool {
	var e *azcore.ResponseError
	return errors.As(err, &e) && e.StatusCode == status
}

// detail is an error of the resource manager with what it has inside.
type detail struct {
	Code    string
	Message string
	Details []detail
}

func read(e *azcore.ResponseError) detail {
	var body struct{ Error detail }
	if e.RawResponse != nil {
		if b, err := runtime.Payload(e.RawResponse); err == nil {
			_ = json.Unmarshal(b, &body) // without a body, the status decides
		}
	}
	if body.Error.Code == "" {
		body.Error.Code = e.ErrorCode
	}
	return body.Error
}

// codes of the resource manager and what they mean for a pool.
var codes = map[string]fault.Code{
	"AllocationFailed": fault.NoCapacity, "ZonalAllocationFailed": fault.NoCapacity, "SkuNotAvailable": fault.NoCapacity,
	"OverconstrainedAllocationRequest": fault.NoCapacity, "OverconstrainedZonalAllocationRequest": fault.NoCapacity,
	"QuotaExceeded": fault.NoQuota, "TooManyRequests": fault.Throttled, "SubscriptionRequestsThrottled": fault.Throttled,
	"PreconditionFailed": fault.Conflict, "Conflict": fault.Conflict,
	"OperationPreempted": fault.Preempted, "RetryableErrorDueToAnotherOperation": fault.Throttled,
	"ResourceNotFound": fault.NotFound, "NotFound": fault.NotFound,
	"ImageNotFound": fault.Invalid, "InvalidParameter": fault.Invalid,
	"InvalidRequestContent": fault.Invalid, "InsufficientSubnetSize": fault.Invalid,
	"VMMarketplaceInvalidInput":            fault.Invalid,
	"MarketplacePurchaseEligibilityFailed": fault.Invalid, "RequestDisallowedByPolicy": fault.Invalid,
	"ScopeLocked": fault.Invalid, "AuthorizationFailed": fault.Invalid,
	"InvalidAuthenticationToken": fault.Invalid, "AuthenticationFailed": fault.Invalid,
}

// classify gives an answer its one code: by its error code, since a failed
// operation comes with status 200.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var e *azcore.ResponseError
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return &fault.Error{Code: fault.Internal, Message: "the resource manager cannot be reached", Err: err}
	}
	d := read(e)
	out := &fault.Error{Code: codeOf(e.StatusCode, d), Err: err, Message: strings.TrimSpace("Azure answered " + d.Code + ": " + d.Message)}
	if out.Code == fault.Throttled {
		out.RetryAfter = retryAfter(e.RawResponse)
	}
	return out
}

// codeOf goes from the certain to the general: a limit of requests, a code that
// is known, what is inside a code that says little, and at last the status.
func codeOf(status int, d detail) fault.Code {
	for _, inner := range d.Details {
		if codes[inner.Code] == fault.Throttled {
			return fault.Throttled
		}
	}
	if status == http.StatusTooManyRequests {
		return fault.Throttled
	}
	if code, ok := codes[d.Code]; ok {
		return code
	}
	if d.Code == "OperationNotAllowed" && strings.Contains(strings.ToLower(d.Message), "quota") {
		return fault.NoQuota
	}
	for _, inner := range d.Details {
		if code, ok := codes[inner.Code]; ok {
			return code
		}
	}
	return byStatus(status)
}

func byStatus(status int) fault.Code {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return fault.Conflict
	case http.StatusTooManyRequests:
		return fault.Throttled
	case http.StatusBadRequest, http.StatusForbidden, http.StatusUnauthorized:
		return fault.Invalid
	}
	return fault.Internal
}
