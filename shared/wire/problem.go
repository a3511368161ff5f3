package wire

import (
	"net/http"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/tree"
)

// ProblemType is the content type of a Problem.
const ProblemType = "application/problem+json"

// ProblemPrefix makes a URI of a fault's code, and of what else goes wrong.
const ProblemPrefix = "urn:dsvm:problem:"

// Problem is the answer to a request that failed, after RFC 9457.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty"` // the field or parameter it is about
	// Missing are blobs that a tree names and that are not there, at most 100 of them.
	Missing []tree.Hash `json:"missing,omitempty"`
}

// NewProblem makes the problem document of a fault. About an internal error it says
// only that it happened.
func NewProblem(f *fault.Error) Problem {
	status, title := statusOf(f.Code)
	p := Problem{Type: ProblemPrefix + string(f.Code), Title: title, Status: status, Detail: f.Message, Field: f.Field}
	if status == http.StatusInternalServerError {
		p = Problem{Type: ProblemPrefix + string(fault.Internal), Title: title, Status: status,
			Detail: "something went wrong on the server: its log says what; try again, and if it stays, ask the people who run it"}
	}
	return p
}

// Problems of HTTP itself, which no fault stands for.

// MethodNotAllowed refuses a method that a path does not know.
func MethodNotAllowed(method string, allowed []string) Problem {
	return Problem{Type: ProblemPrefix + "methodNotAllowed", Title: "The method is not allowed here", Status: http.StatusMethodNotAllowed,
		Detail: method + " is not done here; use " + strings.Join(allowed, " or ")}
}

// Unauthorized refuses a delivery that does not prove where it comes from. It
// never says how near a wrong proof was.
func Unauthorized(detail string) Problem {
	return Problem{
		Type:   ProblemPrefix + "unauthorized",
		Title:  "The delivery is not signed",
		Status: http.StatusUnauthorized,
		Detail: detail,
	}
}

// NotSignedInType is the type of NotSignedIn.
const NotSignedInType = ProblemPrefix + "notSignedIn"

// NotSignedIn refuses a request of which it is not known who calls.
func NotSignedIn(detail string) Problem {
	return Problem{Type: NotSignedInType, Title: "Nobody has signed in", Status: http.StatusUnauthorized, Detail: detail}
}

// PushTooLarge refuses a delivery over the limit of the Git hosts.
func PushTooLarge() Problem {
	return Problem{Type: ProblemPrefix + "tooLarge", Title: "The delivery is too large", Status: http.StatusRequestEntityTooLarge,
		Detail: "a delivery has at most 25 MB; push in several steps"}
}

// TooLarge refuses a body over MaxDocument.
func TooLarge() Problem {
	return Problem{Type: ProblemPrefix + "tooLarge", Title: "The document is too large", Status: http.StatusRequestEntityTooLarge,
		Detail: "a document has at most 32 KiB; put long scripts and lists on the share and name them in the job"}
}

// ListTooLarge refuses a list of documents over MaxJobsBytes.
func ListTooLarge() Problem {
	return Problem{Type: ProblemPrefix + "tooLarge", Title: "The list is too large", Status: http.StatusRequestEntityTooLarge,
		Detail: "a list of jobs has at most 4 MiB; send several lists"}
}

// TooSlow refuses a body that did not come fast enough.
func TooSlow(detail string) Problem {
	return Problem{Type: ProblemPrefix + "tooSlow", Title: "The body came too slowly", Status: http.StatusRequestTimeout, Detail: detail}
}

// Busy refuses a body that there is no memory for now.
func Busy(detail string) Problem {
	return Problem{Type: ProblemPrefix + "busy", Title: "Too much at once", Status: http.StatusServiceUnavailable, Detail: detail}
}

// WrongType refuses a body whose type is one that any web page may send.
func WrongType(detail string) Problem {
	return Problem{
		Type:   ProblemPrefix + "wrongType",
		Title:  "The body's type is not taken",
		Status: http.StatusUnsupportedMediaType,
		Detail: detail,
	}
}

// Error makes a problem document an error, for those who return one.
func (p Problem) Error() string { return p.Detail }

// statusOf is the one place where a fault's code becomes an HTTP status.
func statusOf(c fault.Code) (status int, title string) {
	switch c {
	case fault.Invalid:
		return http.StatusBadRequest, "The request cannot be done as it stands"
	case fault.NotFound:
		return http.StatusNotFound, "There is no such thing"
	case fault.Conflict, fault.Preempted, fault.Immutable:
		return http.StatusConflict, "Something else is in the way"
	case fault.SessionEnded:
		return http.StatusConflict, "The session has ended"
	case fault.Forbidden:
		return http.StatusForbidden, "The caller has no right to it"
	case fault.Gone:
		return http.StatusGone, "It is not there any more"
	case fault.Throttled:
		return http.StatusTooManyRequests, "Too many requests"
	case fault.NoQuota:
		return http.StatusConflict, "The subscription's quota is used up"
	case fault.OverBudget:
		return http.StatusConflict, "It would cost more than is allowed"
	case fault.NoCapacity:
		return http.StatusServiceUnavailable, "The region has no room now"
	}
	return http.StatusInternalServerError, "Internal error"
}

// Fault turns a problem document back into the error it was made of, so that
// callers act on the code.
func (p Problem) Fault() *fault.Error {
	f := &fault.Error{Code: codeOf(p.Status), Message: p.Detail, Field: p.Field}
	if code, own := strings.CutPrefix(p.Type, ProblemPrefix); own && slices.Contains(codes, fault.Code(code)) {
		f.Code = fault.Code(code)
	}
	return f
}

// codes are those that a problem document carries as they are.
var codes = []fault.Code{fault.Invalid, fault.NotFound, fault.Conflict, fault.Throttled, fault.NoQuota, fault.NoCapacity,
	fault.OverBudget, fault.Forbidden, fault.Gone, fault.Preempted, fault.Immutable, fault.Internal, fault.SessionEnded}

// codeOf reads a status that came without a problem document of ours, from a
// proxy or from the host.
func codeOf(status int) fault.Code {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusForbidden:
		return fault.Forbidden
	case http.StatusConflict, http.StatusPreconditionFailed:
		return fault.Conflict
	case http.StatusGone:
		return fault.Gone
	case http.StatusTooManyRequests:
		return fault.Throttled
	}
	if status >= 400 && status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}
