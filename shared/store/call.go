package store

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
	// tries is how often a request is sent in all. Callers hold a message
	// lock and come back later by themselves, so the store gives up early.
	tries = 4
	// firstPause is before the second try; it doubles each time, with jitter.
	firstPause = 200 * time.Millisecond
	// maxPause bounds what a Retry-After may ask for; beyond it the caller is
	// told instead.
	maxPause = 2 * time.Second
)

// operationTimedOut is answered with status 500 by a partition under load.
const operationTimedOut = "OperationTimedOut"

// call sends a request that may be repeated, with a deadline per try.
func (s *Store) call(ctx context.Context, what string, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := once(ctx, do)
		if err == nil {
			return nil
		}
		if try == tries || ctx.Err() != nil || !transient(err) || !pause(ctx, try, err) {
			return s.fault(what, err)
		}
	}
}

// once gives one try its deadline.
func once(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return do(ctx)
}

// pause waits before the next try. It reports false when there shall be none.
func pause(ctx context.Context, try int, err error) bool {
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

// transient reports whether a request that failed like this may succeed when
// it is sent again. What never got an answer counts.
func transient(err error) bool {
	var refused *refusal
	if errors.As(err, &refused) {
		return transientStatus(refused.status)
	}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return transientStatus(response.StatusCode)
	}
	var known *fault.Error
	return !errors.As(err, &known)
}

func transientStatus(status int) bool {
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

// hasCode reports whether the service refused with this code.
func hasCode(err error, code aztables.TableErrorCode) bool {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.code == string(code)
	}
	var response *azcore.ResponseError
	return errors.As(err, &response) && response.ErrorCode == string(code)
}

// fault turns an error of the client into one that callers act on.
func (s *Store) fault(what string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	status, code := 0, ""
	var refused *refusal
	var response *azcore.ResponseError
	switch {
	case errors.As(err, &refused):
		status, code = refused.status, refused.code
	case errors.As(err, &response):
		status, code = response.StatusCode, response.ErrorCode
	default:
		return wrap(fault.Internal, err, "%s: the table service did not answer", what)
	}
	f := &fault.Error{Err: err, Message: fmt.Sprintf("%s: the table service answered %d %s", what, status, code)}
	switch {
	case code == string(aztables.TableNotFound):
		// Not the caller's row is missing: the deployment's table is.
		f.Code, f.Message = fault.Internal, what+": the table does not exist; create the tables first"
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
