package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"dsvmpools/shared/fault"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
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
			json.Unmarshal(b, &body)
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
	"PreconditionFailed": fault.Conflict, "Conflict": fault.Conflict, "OperationPreempted": fault.Conflict, "RetryableErrorDueToAnotherOperation": fault.Throttled,
	"ResourceNotFound": fault.NotFound, "NotFound": fault.NotFound,
	"ImageNotFound": fault.Invalid, "InvalidParameter": fault.Invalid, "InvalidRequestContent": fault.Invalid, "InsufficientSubnetSize": fault.Invalid,
	"VMMarketplaceInvalidInput": fault.Invalid, "MarketplacePurchaseEligibilityFailed": fault.Invalid, "RequestDisallowedByPolicy": fault.Invalid,
	"ScopeLocked": fault.Invalid, "AuthorizationFailed": fault.Invalid, "InvalidAuthenticationToken": fault.Invalid, "AuthenticationFailed": fault.Invalid,
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
	out := &fault.Error{Code: codes[d.Code], Err: err}
	for _, inner := range d.Details {
		if codes[inner.Code] == fault.Throttled {
			out.Code = fault.Throttled
		}
	}
	if d.Code == "OperationNotAllowed" && out.Code == "" && strings.Contains(strings.ToLower(d.Message), "quota") {
		out.Code = fault.NoQuota
	}
	if out.Code == "" {
		out.Code = byStatus(e.StatusCode)
	}
	if out.Code == fault.Throttled {
		out.RetryAfter = retryAfter(e.RawResponse, defaultPoll)
	}
	out.Message = strings.TrimSpace("Azure answered " + d.Code + ": " + d.Message)
	return out
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
