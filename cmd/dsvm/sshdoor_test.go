package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// TestDoorSaysWhyNobodyGetsIn: what the relay and the node refuse is said in words, and not in
// those of the protocol.
func TestDoorSaysWhyNobodyGetsIn(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		code fault.Code
		says string
	}{
		http.StatusServiceUnavailable: {fault.Throttled, "lab.dsvm cannot be reached: its node lets nobody in just now: the session is ending"},
		http.StatusTooManyRequests:    {fault.Throttled, "lab.dsvm cannot be reached: its node lets nobody in just now: the session is ending"},
		http.StatusForbidden:          {fault.Forbidden, "lab.dsvm cannot be reached: its node does not let you in"},
		http.StatusNotFound:           {fault.NotFound, "lab.dsvm cannot be reached: its node is not listening"},
	} {
		relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the session's SSH server does not answer", status)
		}))
		defer relay.Close()
		way := wire.Door{Kind: wire.DoorRelay, URL: strings.Replace(relay.URL, "http", "ws", 1) + "/$hc/lab-1/ssh/s"}
		_, err := dialOnce(t.Context(), "lab.dsvm", []wire.Door{way})
		if fault.CodeOf(err) != want.code || err == nil || !strings.HasPrefix(err.Error(), want.says) || strings.Contains(err.Error(), "busy") {
			t.Errorf("%d: got %v (%s), want %q (%s)", status, err, fault.CodeOf(err), want.says, want.code)
		}
	}
}
