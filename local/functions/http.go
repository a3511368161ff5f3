//go:build unix

package functions

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"dsvmpools/shared/invoke"
)

// maxRequest is the host's limit on a request's body.
const maxRequest = 100 << 20

// routes serves the HTTP functions and the admin calls.
func (h *Host) routes() http.Handler {
	mux := http.NewServeMux()
	prefix := "api"
	if p := h.file.Extensions.HTTP.RoutePrefix; p != nil {
		prefix = strings.Trim(*p, "/")
	}
	for _, f := range h.fns {
		if f.trigger.Type != "httpTrigger" || f.disabled {
			continue
		}
		route := f.name
		if f.trigger.Route != nil {
			route = strings.Trim(*f.trigger.Route, "/")
		}
		mux.Handle(pattern(prefix, route), h.guard(f, prefix, route))
	}
	mux.HandleFunc("POST /admin/functions/{name}", h.admin)
	return mux
}

// pattern turns a route of the host into one of Go: {*rest} takes everything
// that follows.
func pattern(prefix, route string) string {
	if i := strings.Index(route, "{*"); i >= 0 {
		return "/" + strings.Trim(prefix+"/"+route[:i], "/") + "/"
	}
	return "/" + strings.Trim(prefix+"/"+route, "/")
}

// guard checks method and key, and hands the request on.
func (h *Host) guard(f function, prefix, route string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := len(f.trigger.Methods) == 0
		for _, m := range f.trigger.Methods {
			allowed = allowed || strings.EqualFold(m, r.Method)
		}
		key := r.Header.Get("x-functions-key")
		if key == "" {
			key = r.URL.Query().Get("code")
		}
		switch {
		case !allowed:
			http.NotFound(w, r) // as the host does: no route of that method
		case !h.authorized(f.trigger.AuthLevel, key):
			w.WriteHeader(http.StatusUnauthorized)
		case f.proxied && h.file.CustomHandler.EnableProxyingHTTPRequest:
			h.proxy(w, r)
		default:
			h.payload(w, r, f, strings.TrimPrefix(r.URL.Path, "/"+prefix+"/"), route)
		}
	})
}

// authorized compares keys in constant time.
func (h *Host) authorized(level, key string) bool {
	is := func(want string) bool {
		return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(key)) == 1
	}
	switch strings.ToLower(level) {
	case "anonymous":
		return true
	case "admin":
		return is(h.cfg.MasterKey)
	default:
		return is(h.cfg.FunctionKey) || is(h.cfg.MasterKey)
	}
}

// proxy passes the request on as it is, streaming both ways.
func (h *Host) proxy(w http.ResponseWriter, r *http.Request) {
	port, err := h.worker.port(r.Context())
	if err != nil {
		http.Error(w, "the handler is not running", http.StatusBadGateway)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	id := newID()
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     h.client.Transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})
			p.Out.Host = r.Host
			p.Out.Header.Set("X-Azure-Functions-HostVersion", hostVersion)
			p.Out.Header.Set(invoke.InvocationHeader, id)
			p.Out.Header.Set("x-ms-invocation-id", id)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			h.log.Warn("a request could not be passed on", "error", err)
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// payload invokes an HTTP function that is not proxied and answers with its
// output `res`, or whatever its HTTP output is called.
func (h *Host) payload(w http.ResponseWriter, r *http.Request, f function, path, route string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	params := map[string]string{}
	if i := strings.Index(route, "{*"); i >= 0 {
		params[strings.Trim(route[i:], "{*}")] = strings.TrimPrefix(path, route[:i])
	}
	id := newID()
	res, err := h.call(f, id, invoke.EncodeHTTP(f.name, f.trigger.Name, id, time.Now(), r, params, body))
	if err != nil {
		h.log.Error("an HTTP function failed", "function", f.name, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, raw := range res.Outputs {
		var out struct {
			StatusCode json.RawMessage
			Body       string
			Headers    map[string]string
		}
		if json.Unmarshal(raw, &out) != nil {
			continue
		}
		for k, v := range out.Headers {
			w.Header().Set(k, v)
		}
		status := http.StatusOK
		fmt.Sscan(strings.Trim(string(out.StatusCode), `"`), &status)
		w.WriteHeader(status)
		io.WriteString(w, out.Body)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// admin invokes any function but an HTTP one by hand.
func (h *Host) admin(w http.ResponseWriter, r *http.Request) {
	if !h.authorized("admin", r.Header.Get("x-functions-key")) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in struct{ Input string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, f := range h.fns {
		if f.name != r.PathValue("name") || f.trigger.Type == "httpTrigger" {
			continue
		}
		id := newID()
		payload := invoke.EncodeTimer(f.name, f.trigger.Name, id, time.Now(), invoke.Tick{})
		if f.trigger.Type == "serviceBusTrigger" {
			payload = invoke.EncodeBatch(f.name, f.trigger.Name, id, time.Now(), []invoke.Message{{Body: []byte(in.Input), ID: id, EnqueuedAt: time.Now()}})
		}
		h.wg.Go(func() {
			if _, err := h.call(f, id, payload); err != nil {
				h.log.Error("an invocation by hand failed", "function", f.name, "error", err)
			}
		})
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.WriteHeader(http.StatusNotFound)
}
