package functions

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"dsvmpools/shared/invoke"
)

// serveHostCall answers the calls of the host itself, which have precedence over the
// routes of functions. It reports whether it has answered.
func (h *Host) serveHostCall(w http.ResponseWriter, r *http.Request, path string) bool {
	parts := strings.Split(strings.Trim(strings.ToLower(path), "/"), "/")
	if parts[0] != "admin" || len(parts) != 3 {
		return false
	}
	switch {
	case parts[1] == "host" && parts[2] == "ping" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		w.WriteHeader(http.StatusOK) // needs no key: the platform sends none either
	case parts[1] == "host" && parts[2] == "status" && r.Method == http.MethodGet:
		if h.mayAdminister(w, r) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_ = json.NewEncoder(w).Encode(map[string]string{"state": "Running", "version": hostVersion})
		}
	case parts[1] == "functions" && r.Method == http.MethodPost:
		if h.mayAdminister(w, r) {
			h.invokeByHand(w, r, parts[2])
		}
	default:
		return false
	}
	return true
}

// mayAdminister answers a request without a key with 401, and one with the key of
// the functions with 403.
func (h *Host) mayAdminister(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case h.authorized("admin", r):
		return true
	case h.authorized("function", r):
		w.WriteHeader(http.StatusForbidden)
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
	return false
}

// invokeByHand invokes a timer or Service Bus function. It answers before the
// function has run.
func (h *Host) invokeByHand(w http.ResponseWriter, r *http.Request, name string) {
	var in struct{ Input string }
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminRequest))
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		http.Error(w, `the body must be {"input":"text"}`, http.StatusBadRequest)
		return
	}
	i := slices.IndexFunc(h.functions, func(f *function) bool { return strings.EqualFold(f.name, name) && f.trigger.Type != httpTrigger })
	if i < 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f := h.functions[i]
	inv := h.invocation(f)
	body := inv.Tick(invoke.Tick{})
	if f.trigger.Type == serviceBusTrigger {
		inv.Namespace = namespace(h.cfg.Settings, f.trigger.Connection)
		body = inv.ByHand(in.Input, f.takesBatches(), f.isBinary())
	}
	h.wg.Go(func() {
		if _, err := h.call(h.ctx, f, inv, body); err != nil {
			h.log.Error("invocation by hand failed", "function", f.name, "invocation", inv.ID, "error", err)
		}
	})
	w.WriteHeader(http.StatusAccepted)
}
