package functions

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/intake"
)

// Limits and times of the HTTP side.
const (
	maxRequest      = 100 << 20 // of a request's body, as in the real host
	maxAdminRequest = 1 << 20
	headerTime      = 10 * time.Second // for the header of a request to arrive
	idleTime        = 2 * time.Minute  // of a connection between requests
	maxHeader       = 32 << 10         // of a request, as in the real host
	maxReplyHeader  = 64 << 10         // of the handler's reply
	expectTime      = time.Second      // for the handler to ask for a body that waits for leave, as of the real host's client
)

// routes serves the host's own calls and the HTTP functions.
//
// Functions are tried in the order of their names, without regard to case. The first
// one whose route and method match gets the request: a more specific route has no
// precedence. A disabled function gets it too, and answers 404.
func (h *Host) routes() http.Handler {
	prefix := defaultRoutePrefix
	if p := h.file.Extensions.HTTP.RoutePrefix; p != nil {
		prefix = *p
	}
	prefix = "/" + strings.Trim(prefix, "/")
	var functions []*function
	for _, f := range h.functions {
		if f.trigger.Type == httpTrigger {
			functions = append(functions, f)
		}
	}
	slices.SortStableFunc(functions, func(a, b *function) int { return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name)) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, whole := cleanPath(r.URL.EscapedPath())
		if h.serveHostCall(w, r, path) {
			return
		}
		if rest, ok := cutFold(path, prefix); ok && whole && (rest == "" || rest[0] == '/' || prefix == "/") {
			if f, params := find(functions, r.Method, rest); f != nil {
				h.serve(w, r, f, path, params)
				return
			}
		}
		if path == "/" {
			h.homepage(w)
			return
		}
		w.WriteHeader(http.StatusNotFound) // also for a method that no function takes
	})
}

// find returns the function for a path without its prefix; nil = none.
func find(functions []*function, method, path string) (*function, map[string]string) {
	for _, f := range functions {
		if params, ok := f.route.match(path); ok && f.takes(method) {
			return f, params
		}
	}
	return nil, nil
}

// homepage answers at the root of the host when no function does.
func (h *Host) homepage(w http.ResponseWriter) {
	if isTrue(h.cfg.Settings["AzureWebJobsDisableHomepage"]) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>Functions host</title><p>The local Functions host is up and running.\n")
}

// cutFold is strings.CutPrefix without regard to case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// serve answers a request to a function.
func (h *Host) serve(w http.ResponseWriter, r *http.Request, f *function, path string, params map[string]string) {
	switch {
	case f.disabled:
		w.WriteHeader(http.StatusNotFound)
	case !h.authorized(f.trigger.AuthLevel, r):
		w.WriteHeader(http.StatusUnauthorized)
	case r.ContentLength > maxRequest:
		w.Header().Set("Connection", "close") // nobody reads the body
		w.WriteHeader(http.StatusInternalServerError)
	case f.plain && h.file.CustomHandler.EnableProxyingHTTPRequest:
		h.forward(w, r, f, path)
	default:
		h.answer(w, r, f, params)
	}
}

func (f *function) takes(method string) bool {
	return len(f.trigger.Methods) == 0 || slices.ContainsFunc(f.trigger.Methods, func(m string) bool { return strings.EqualFold(m, method) })
}

// requestKey returns the key that a request brings to open a function: the header,
// or else the first parameter of the query that is named code in any case, as the
// caller wrote them. "" = there is none.
func requestKey(r *http.Request) string {
	if key := r.Header.Get("x-functions-key"); key != "" {
		return key
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || !strings.EqualFold(name, "code") {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return value
		}
	}
	return ""
}

// authorized compares the request's key in constant time.
func (h *Host) authorized(level string, r *http.Request) bool {
	key := requestKey(r)
	is := func(want string) bool {
		return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(key)) == 1
	}
	switch strings.ToLower(level) {
	case "anonymous":
		return true
	case "admin":
		return is(h.cfg.MasterKey)
	}
	return is(h.cfg.FunctionKey) || is(h.cfg.MasterKey)
}

// answer invokes an HTTP function whose requests are not passed on, and answers with its
// HTTP output.
func (h *Host) answer(w http.ResponseWriter, r *http.Request, f *function, params map[string]string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		refuseBody(w, err)
		return
	}
	inv := h.invocation(f)
	ctx, cancel := context.WithCancel(h.ctx) // the real host does not notify the handler when the client closes its connection
	defer cancel()
	reply, err := h.call(ctx, f, inv, inv.Request(r, params, body))
	if err != nil {
		h.log.Error("HTTP function failed", "function", f.name, "invocation", inv.ID, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	raw, ok := reply.Outputs[f.output]
	if !ok {
		w.WriteHeader(http.StatusOK)
		return
	}
	writeOutput(w, raw)
}

// refuseBody answers a request whose body cannot be read completely.
func refuseBody(w http.ResponseWriter, err error) {
	w.Header().Set("Connection", "close") // the rest of the body may still come
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge): // as the real host answers
		w.WriteHeader(http.StatusInternalServerError)
	case errors.Is(err, intake.ErrSlow):
		w.WriteHeader(http.StatusRequestTimeout)
	default:
		http.Error(w, "the body ends before the length that its header says, or has parts that cannot be read; send the request again",
			http.StatusBadRequest)
	}
}

// writeOutput writes an HTTP output: an object, or its text in a string, with statusCode,
// headers and body. The code may be a text.
func writeOutput(w http.ResponseWriter, raw json.RawMessage) {
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		raw = json.RawMessage(inner)
	}
	var out struct {
		StatusCode json.RawMessage
		Body       json.RawMessage
		Headers    map[string]string
	}
	if json.Unmarshal(raw, &out) != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	status, err := strconv.Atoi(strings.Trim(string(out.StatusCode), `"`))
	if err != nil || status < 200 || status > 999 {
		status = http.StatusOK
	}
	for name, value := range out.Headers {
		w.Header().Set(name, value)
	}
	body := []byte(out.Body)
	var text string
	if json.Unmarshal(out.Body, &text) == nil {
		body = []byte(text)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
