package functions

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/local/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/invoke"

	"github.com/google/uuid"
)

// Limits and times of the HTTP side.
const (
	maxRequest      = 100 << 20 // of a request's body, as in the real host
	maxAdminRequest = 1 << 20
	headerTime      = 10 * time.Second // for the header of a request to arrive
	idleTime        = 2 * time.Minute  // of a connection between requests
	maxHeader       = 32 << 10         // of a request, as in the real host
	maxReplyHeader  = 64 << 10         // of the handler's reply
	// The real host tries to connect to the handler this often, and waits between.
	connectTries  = 10
	connectPause  = 50 * time.Millisecond
	connectLonger = 250 * time.Millisecond
)

// routes serves the HTTP functions and the admin calls.
func (h *Host) routes() http.Handler {
	prefix := defaultRoutePrefix
	if p := h.file.Extensions.HTTP.RoutePrefix; p != nil {
		prefix = *p
	}
	prefix = "/" + strings.Trim(prefix, "/")
	var functions []*function
	for _, f := range h.functions {
		if f.trigger.Type == httpTrigger && !f.disabled {
			functions = append(functions, f)
		}
	}
	slices.SortStableFunc(functions, func(a, b *function) int {
		switch {
		case a.route.before(b.route):
			return -1
		case b.route.before(a.route):
			return 1
		}
		return 0
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin/functions/{name}", h.admin)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if rest, ok := cutFold(path, prefix); ok && (rest == "" || rest[0] == '/' || prefix == "/") && !strings.HasPrefix(path, "/admin/") {
			h.route(w, r, functions, rest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// cutFold is strings.CutPrefix without regard to case, as routes are.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// route finds the function for a path without its prefix.
func (h *Host) route(w http.ResponseWriter, r *http.Request, functions []*function, path string) {
	for _, f := range functions {
		params, ok := f.route.match(path)
		if !ok || !f.takes(r.Method) {
			continue
		}
		switch {
		case !h.authorized(f.trigger.AuthLevel, r):
			w.WriteHeader(http.StatusUnauthorized)
		case r.ContentLength > maxRequest:
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case f.plain && h.file.CustomHandler.EnableProxyingHTTPRequest:
			h.forward(w, r, f)
		default:
			h.answer(w, r, f, params)
		}
		return
	}
	http.NotFound(w, r) // for a method that no function takes too, as in the real host
}

func (f *function) takes(method string) bool {
	return len(f.trigger.Methods) == 0 || slices.ContainsFunc(f.trigger.Methods, func(m string) bool { return strings.EqualFold(m, method) })
}

// authorized compares the request's key in constant time.
func (h *Host) authorized(level string, r *http.Request) bool {
	key := r.Header.Get("x-functions-key")
	if key == "" {
		key = r.URL.Query().Get("code")
	}
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

// forward passes a request on as it is, streaming both ways.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, f *function) {
	id := uuid.NewString()
	action := h.fault(r.Context(), f.name)
	if action == fault.Refuse {
		h.log.Error("an HTTP function failed", "function", f.name, "invocation", id, "error", errRefused)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	_ = http.NewResponseController(w).EnableFullDuplex() // else the answer would wait for the end of the request
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, // at once
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		Transport:     connecting{h, action},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "handler"}) // connecting knows where it is
			p.Out.Host = p.In.Host
			p.Out.Header.Set(invoke.HeaderHostVersion, hostVersion)
			p.Out.Header.Set(invoke.HeaderInvocation, id)
			p.Out.Header.Set("x-ms-invocation-id", id)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			// Somebody may still be reading the request's body, so its connection
			// cannot take the next one.
			w.Header().Set("Connection", "close")
			var tooLarge *http.MaxBytesError
			switch {
			case errors.As(err, &tooLarge):
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			case errors.Is(err, intake.ErrSlow):
				w.WriteHeader(http.StatusRequestTimeout)
			case r.Context().Err() != nil: // the client has gone, or has ended its request too early and listens still
				w.WriteHeader(http.StatusBadRequest)
			default:
				h.log.Warn("a request could not be passed on", "invocation", id, "method", r.Method, "path", r.URL.Path, "error", err)
				w.WriteHeader(http.StatusBadGateway)
			}
		},
	}
	proxy.ServeHTTP(w, r)
}

// connecting sends requests to the handler wherever it listens, and tries again
// while it cannot be connected to: nothing of the request is used up by then.
type connecting struct {
	h      *Host
	action fault.Action // disconnect and lose happen here
}

func (c connecting) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(c.h.ctx, cancel) // the host's end ends the wait
	defer func() { stop(); cancel() }()
	var reply *http.Response
	var err error
	for try := range connectTries {
		var port int
		if port, err = c.h.worker.await(ctx); err != nil {
			return nil, err
		}
		c.h.worker.sign(r.Header, port)
		if c.action == fault.Disconnect {
			return nil, errors.Join(errCut, cut(ctx, port, r, nil))
		}
		out := r.Clone(r.Context())
		out.URL.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		reply, err = c.h.transport.RoundTrip(out)
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			if err == nil && c.action == fault.Lose {
				_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, maxReply))
				reply.Body.Close()
				return nil, errLost
			}
			return reply, err
		}
		pause(ctx, min(connectPause*time.Duration(try+1), connectLonger))
	}
	return nil, err
}

// answer invokes an HTTP function whose requests are not passed on, and answers
// with what its HTTP output says.
func (h *Host) answer(w http.ResponseWriter, r *http.Request, f *function, params map[string]string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	inv := h.invocation(f)
	ctx, cancel := context.WithCancel(h.ctx) // the real host does not tell the handler that the client has gone
	defer cancel()
	reply, err := h.call(ctx, f, inv, inv.Request(r, params, body))
	if err != nil {
		h.log.Error("an HTTP function failed", "function", f.name, "invocation", inv.ID, "error", err)
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

// writeOutput writes an HTTP output: an object, possibly in a string, of
// statusCode, headers and body, where the code may be a text too.
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

// admin invokes a timer or Service Bus function by hand. It answers before the
// function has run.
func (h *Host) admin(w http.ResponseWriter, r *http.Request) {
	if !h.authorized("admin", r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in struct{ Input string }
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminRequest))
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		http.Error(w, `the body must be {"input":"text"}`, http.StatusBadRequest)
		return
	}
	i := slices.IndexFunc(h.functions, func(f *function) bool {
		return strings.EqualFold(f.name, r.PathValue("name")) && f.trigger.Type != httpTrigger
	})
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	f := h.functions[i]
	inv := h.invocation(f)
	body := inv.Tick(invoke.Tick{})
	if f.trigger.Type == serviceBusTrigger {
		d := invoke.Delivery{Message: invoke.Message{Body: []byte(in.Input), ID: uuid.NewString(), DeliveryCount: 1, EnqueuedAt: inv.At}}
		if body = inv.Single(d, f.binary()); f.many() {
			body = inv.Batch([]invoke.Delivery{d})
		}
	}
	h.wg.Go(func() {
		if _, err := h.call(h.ctx, f, inv, body); err != nil {
			h.log.Error("an invocation by hand failed", "function", f.name, "invocation", inv.ID, "error", err)
		}
	})
	w.WriteHeader(http.StatusAccepted)
}
