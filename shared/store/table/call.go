package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
)

const (
	// tryTimeout bounds one request. The service itself ends a query after 5 s
	// of work and a request after 30 s; a client that waits longer than this
	// waits for a reply that was lost.
	tryTimeout = 10 * time.Second
	// Tries is how often a request is sent in all. Callers hold the lock of a message
	// and try again later themselves, so the store gives up early.
	Tries = 4
	// firstPause is before the second try; it doubles each time, with jitter.
	firstPause = 200 * time.Millisecond
	// maxPause bounds the pause. If the service asks for a longer one in Retry-After, the
	// caller gets the error, and tries again later itself.
	maxPause = 2 * time.Second
)

// operationTimedOut is answered with status 500 by a partition under load.
const operationTimedOut = "OperationTimedOut"

// call sends a request that may be repeated, with a deadline per try.
func call(ctx context.Context, what string, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := tryOnce(ctx, do)
		if err == nil {
			return nil
		}
		if !WaitForRetry(ctx, try, err) {
			return Fault(what, err)
		}
	}
}

// tryOnce sends a request with the deadline of one try.
func tryOnce(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return do(ctx)
}

// WaitForRetry waits before the next try of a request that has failed as often
// as try says, the first time with 1. It reports false, at once, when another
// try would not help: too many were made, the error stays the same, or ctx ends.
func WaitForRetry(ctx context.Context, try int, err error) bool {
	if try >= Tries || ctx.Err() != nil || !isTransient(err) {
		return false
	}
	wait := backoff.After(try, firstPause, maxPause)
	wait += time.Duration(rand.Int64N(int64(wait) / 2))
	if asked := retryAfter(err); asked > maxPause {
		return false
	} else if asked > wait {
		wait = asked
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isTransient reports whether a request that failed like this may succeed when
// it is sent again. A request without an answer counts as such.
func isTransient(err error) bool {
	var refused *Refusal
	if errors.As(err, &refused) {
		return isTransientStatus(refused.Status)
	}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return isTransientStatus(response.StatusCode)
	}
	var known *fault.Error
	return !errors.As(err, &known)
}

func isTransientStatus(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// retryAfter is how long the service asks to be left alone.
func retryAfter(err error) time.Duration {
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.RawResponse == nil {
		return 0
	}
	seconds, err := strconv.ParseUint(response.RawResponse.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// serverBusy is answered with status 503 when there are more requests than the partition or
// the account allows.
const serverBusy = "ServerBusy"

// IsBusy reports whether the service refused a request, unseen, because there were too many.
func IsBusy(err error) bool { return hasCode(err, serverBusy) }

// hasCode reports whether the service refused with this code.
func hasCode(err error, code aztables.TableErrorCode) bool {
	var refused *Refusal
	if errors.As(err, &refused) {
		return refused.Code == string(code)
	}
	var response *azcore.ResponseError
	return errors.As(err, &response) && response.ErrorCode == string(code)
}

// Fault turns an error of the client into one that callers act on. A fault error
// stays as it is.
func Fault(what string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	status, code := 0, ""
	var refused *Refusal
	var response *azcore.ResponseError
	switch {
	case errors.As(err, &refused):
		status, code = refused.Status, refused.Code
	case errors.As(err, &response):
		status, code = response.StatusCode, response.ErrorCode
	default:
		return wrap(fault.Internal, err, "%s: the table service did not answer", what)
	}
	f := &fault.Error{Err: err, Message: fmt.Sprintf("%s: the table service answered %d %s", what, status, code)}
	switch {
	case code == string(aztables.TableNotFound):
		// The deployment's table is missing, not the caller's row.
		f.Code, f.Message = fault.Internal, what+": the table does not exist, although it was just created"
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		f.Code, f.Message = fault.Internal, fmt.Sprintf(
			"%s: the table service refuses the app's identity (%d %s): the role Storage Table Data Contributor on the storage account "+
				"is missing, or was granted minutes ago and has not arrived yet",
			what, status, code,
		)
	case status == http.StatusNotFound:
		f.Code = fault.NotFound
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		f.Code = fault.Conflict
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, code == operationTimedOut:
		f.Code, f.RetryAfter = fault.Throttled, retryAfter(err)
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge:
		f.Code = fault.Invalid
	default:
		f.Code = fault.Internal
	}
	return f
}

// wrap makes a fault with a cause.
func wrap(code fault.Code, cause error, format string, args ...any) error {
	return &fault.Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
