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

// isMissing reports whether an answer says that a set or an instance is not there. Without
// the resource group or the subscription nobody knows: a slip in a setting must not look as
// if all nodes were gone.
func isMissing(err error) bool {
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != http.StatusNotFound {
		return false
	}
	return meanings[read(e).Code].code != fault.Invalid
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

// refusesAddressSKU reports whether Azure has refused the SKU of the instances' public
// addresses: its documents differ on whether a Uniform set may name it.
func refusesAddressSKU(err error) bool {
	if !isStatus(err, http.StatusBadRequest) {
		return false
	}
	var e *azcore.ResponseError
	errors.As(err, &e)
	d := read(e)
	said := strings.ToLower(d.Message)
	for _, inner := range d.Details {
		said += " " + strings.ToLower(inner.Message)
	}
	return strings.Contains(said, "could not find member 'sku'") || strings.Contains(said, "publicipaddressconfiguration.sku")
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
	m, about := explain(e.StatusCode, read(e))
	out := &fault.Error{Code: m.code, Err: err, Message: sentence(about, m.do)}
	if out.Code == fault.Throttled {
		out.RetryAfter = retryAfter(e.RawResponse)
	}
	return out
}

// explain says what an answer means, and which of its errors says so. It goes from the
// certain to the general: a limit of requests, a code that is known, what is inside a code
// that says little, and at last the status.
func explain(status int, d detail) (meaning, detail) {
	for _, inner := range d.Details {
		if meanings[inner.Code].code == fault.Throttled {
			return meaning{code: fault.Throttled}, d
		}
	}
	if status == http.StatusTooManyRequests {
		return meaning{code: fault.Throttled}, d
	}
	outer, known, certain := meaningOf(d.Code, d.Message)
	if certain {
		return outer, d
	}
	for _, inner := range d.Details {
		if m, _, certain := meaningOf(inner.Code, inner.Message); certain {
			return m, inner
		}
	}
	if known {
		return outer, d
	}
	return meaning{code: byStatus(status)}, d
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
