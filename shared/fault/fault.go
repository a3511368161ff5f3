// Package fault is the project's small vocabulary of errors. Code decides what
// is done about an error; Message is a sentence for the person; the cause stays
// wrapped for the log. It is pure.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code says what kind of error it is. It is acted on; the text never is.
type Code string

const (
	Invalid    Code = "invalid"    // what was asked for cannot be done as it stands
	NotFound   Code = "notFound"   // no such thing
	Conflict   Code = "conflict"   // something else was there first
	Forbidden  Code = "forbidden"  // the caller has no right to it
	Throttled  Code = "throttled"  // too many requests; RetryAfter says when to come again
	NoQuota    Code = "noQuota"    // the subscription's quota is used up
	NoCapacity Code = "noCapacity" // the region has no room for the size now
	OverBudget Code = "overBudget" // it would cost more than is allowed
	Gone       Code = "gone"       // it was there once and is not known any more
	Preempted  Code = "preempted"  // a later operation took its place; what came of it has to be looked up
	Immutable  Code = "immutable"  // what is there cannot be changed so; it has to be made again
	Internal   Code = "internal"   // everything else

	SessionEnded Code = "sessionEnded" // there is no live session, and nobody asked for a new one
)

// Error is an error with a code and a sentence that says what to do.
type Error struct {
	Code       Code
	Message    string        // for people; never holds inner detail or a secret
	Field      string        // the field, setting or parameter it is about; "" = none
	RetryAfter time.Duration // when to come again; 0 = not said
	Left       *int          // NoQuota: how many would be given; nil = not said
	Err        error         // the cause, for the log; may be nil
}

// New makes an error without a cause.
func New(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Error is the message with its cause, for the log.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code of an error: "" for nil, Internal for anything foreign.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
