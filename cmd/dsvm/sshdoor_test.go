package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/way"
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
		at := wire.Door{Kind: wire.DoorRelay, URL: strings.Replace(relay.URL, "http", "ws", 1) + "/$hc/lab-1/ssh/s"}
		_, err := dialOnce(t.Context(), "lab.dsvm", []wire.Door{at})
		if fault.CodeOf(err) != want.code || err == nil || !strings.HasPrefix(err.Error(), want.says) || strings.Contains(err.Error(), "busy") {
			t.Errorf("%d: got %v (%s), want %q (%s)", status, err, fault.CodeOf(err), want.says, want.code)
		}
	}
}

// TestABalancerIsWaitedFor: a balancer closes what comes until its probe has met the node, which is
// after the session is ready.
func TestABalancerIsWaitedFor(t *testing.T) {
	t.Parallel()
	balancer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer balancer.Close()
	go func() {
		for came := 1; ; came++ {
			conn, err := balancer.Accept()
			if err != nil {
				return
			}
			if _, err := way.ReadLine(conn); err == nil && came > 2 {
				_ = way.Accept(conn)
			}
			conn.Close()
		}
	}()
	doors := []wire.Door{{Kind: wire.DoorBalancer, Address: balancer.Addr().String(), Token: "way"}}
	within, closed := waitFor(doors)
	node, err := dialDoor(t.Context(), "lab.dsvm", doors, within, closed...)
	if err != nil {
		t.Fatal(err)
	}
	node.Close()
}
