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

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
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
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // the caller is gone if this fails
}

func writeOK(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, "application/json", v)
	return nil
}

// readBody reads a document, and refuses one that is too long without reading
// on.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxDocument))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, wire.TooLarge()
	case errors.Is(err, intake.ErrSlow):
		return nil, tooSlow(w)
	case err != nil:
		return nil, fault.New(fault.Invalid, "", "the request's body broke off; send it again")
	}
	return body, nil
}

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
		case !slices.Contains(known, name) && len(known) == 0:
			return fault.New(fault.Invalid, name, "parameter %.50q is unknown; this path takes none", name)
		case !slices.Contains(known, name):
			return fault.New(fault.Invalid, name, "parameter %.50q is unknown; this path takes %s", name, strings.Join(known, ", "))
		case len(values) > 1:
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

func limitOf(q url.Values) (int, error) {
	n, err := number(q, "limit", 1, wire.MaxLimit, wire.DefaultLimit)
	return int(n), err
}

// dateLayout is a day, which stands for its first instant in UTC.
const dateLayout = "2006-01-02"

// instant reads a time or a day out of the query.
func instant(q url.Values, name string, missing time.Time) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return missing, nil
	}
	for _, layout := range []string{time.RFC3339, dateLayout} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fault.New(
		fault.Invalid,
		name,
		"%s is %.50q; it takes a day such as 2026-01-31, or a time such as 2026-01-31T18:00:00Z",
		name,
		text,
	)
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
