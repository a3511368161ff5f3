package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// keyParameter is another place where the Functions host takes the key.
const keyParameter = "code"

// writeJSON answers with a document.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, contentType = http.StatusInternalServerError, wire.ProblemType
		body, _ = json.Marshal(wire.NewProblem(&fault.Error{Code: fault.Internal, Err: err}))
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", contentType)
	if p, ok := w.(*polled); ok && status == http.StatusOK {
		if body, status = p.shorten(body); status == http.StatusNotModified {
			w.WriteHeader(status)
			return
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // the caller is gone if this fails
}

func writeOK(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, "application/json", v)
	return nil
}

// readBody reads a document, and refuses one that is too long without reading
// on.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxDocument))
	if err != nil {
		return nil, bodyError(w, err, wire.TooLarge())
	}
	return body, nil
}

// bodyError says why a body could not be read.
func bodyError(w http.ResponseWriter, err error, tooLarge wire.Problem) error {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return tooLarge
	case errors.Is(err, intake.ErrSlow):
		return tooSlow(w)
	}
	return fault.New(fault.Invalid, "", "the request's body broke off; send it again")
}

// repeatable are the parameters that may be given several times.
var repeatable = []string{"id", "state", "label"}

// longest bounds the characters of parameters: what is longer names nothing.
var longest = map[string]int{"team": 200, "user": 200, "continue": 1000}

// checkQuery refuses parameters that a route does not know: ignored, a
// misspelled filter would show everything.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.New(fault.Invalid, "", "the query of the address cannot be read; escape its values")
	}
	for name, values := range query {
		switch {
		case name == keyParameter:
		case slices.Contains(known, name) && slices.Contains(values, ""):
			return fault.New(fault.Invalid, name, "parameter %q is empty; give it a value, or leave it out", name)
		case !slices.Contains(known, name) && len(known) == 0:
			return fault.New(fault.Invalid, name, "parameter %.50q is unknown; this path takes none", name)
		case !slices.Contains(known, name):
			return fault.New(fault.Invalid, name, "parameter %.50q is unknown; this path takes %s", name, strings.Join(known, ", "))
		case longest[name] > 0 && slices.ContainsFunc(values, func(v string) bool { return utf8.RuneCountInString(v) > longest[name] }):
			return fault.New(fault.Invalid, name, "parameter %q is longer than %d characters", name, longest[name])
		case len(values) > 1 && !slices.Contains(repeatable, name):
			return fault.New(fault.Invalid, name, "parameter %q is given %d times; give it once", name, len(values))
		}
	}
	return nil
}

// number reads a whole number out of the query.
func number(q url.Values, name string, low, high, missing int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fault.New(fault.Invalid, name, "%s is %.50q; it takes a whole number from %d to %d", name, text, low, high)
	}
	return n, nil
}

// boolean reads true or false out of the query; missing is false.
func boolean(q url.Values, name string) (bool, error) {
	switch text := q.Get(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fault.New(fault.Invalid, name, "%s is %.50q; it takes true or false", name, text)
	}
}

func limitOf(q url.Values) (int, error) {
	n, err := number(q, "limit", 1, wire.MaxLimit, wire.DefaultLimit)
	return int(n), err
}

// pastInstant reads a time of the past out of the query; zero when it is not given.
func pastInstant(q url.Values, name string, now time.Time) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := usage.ParseInstant(text, now.UTC())
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, name, "%s is %v", name, err)
	}
	return t, nil
}

// page cuts a sorted list for one answer. The token is the key of the last
// item that was given out, so that items which come and go between two requests
// neither hide nor repeat others.
func page[T any](items []T, q url.Values, key func(i int) string) (wire.List[T], error) {
	limit, err := limitOf(q)
	if err != nil {
		return wire.List[T]{}, err
	}
	after := q.Get("continue")
	start := 0
	for after != "" && start < len(items) && key(start) <= after {
		start++
	}
	end, next := len(items), ""
	if end-start > limit {
		end = start + limit
		next = key(end - 1)
	}
	return wire.NewList(items[start:end], next), nil
}
