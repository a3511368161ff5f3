package handlers

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/tables"
	"dsvmpools/shared/invoke"
)

// refusedTables are tables that do not exist on a server that refuses everybody, as Azure
// does for minutes after a role was granted, until allowed is set.
func refusedTables(t *testing.T) (connection string, requests *atomic.Int32, allowed *atomic.Bool) {
	t.Helper()
	server, err := tables.Start(tables.Config{
		Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "tables.db"), Account: "test",
		Key: base64.StdEncoding.EncodeToString([]byte("the key of a test account")),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Addr()})
	requests, allowed = new(atomic.Int32), new(atomic.Bool)
	line := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if allowed.Load() {
			forward.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("x-ms-error-code", "AuthorizationPermissionMismatch")
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(line.Close)
	return strings.Replace(server.ConnectionString(), server.Addr(), line.Listener.Addr().String(), 1), requests, allowed
}

// startHandler runs the handler and returns its address when the port is open. ended has
// its exit code.
func startHandler(t *testing.T, settings map[string]string) (home string, ended <-chan int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	settings[invoke.PortSetting] = port
	ctx, stop := context.WithCancel(context.Background())
	codes := make(chan int, 1)
	go func() {
		codes <- Main(ctx, func(name string) string { return settings[name] }, slog.New(slog.DiscardHandler))
		close(codes)
	}()
	t.Cleanup(func() {
		stop()
		for range codes {
		}
	})
	home = "http://127.0.0.1:" + port
	for until := time.Now().Add(time.Minute); ; {
		response, err := http.Get(home + "/")
		if err == nil {
			response.Body.Close()
			return home, codes
		}
		select {
		case code := <-codes:
			t.Fatalf("the handler ended with %d", code)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(until) {
			t.Fatal("the port does not open")
		}
	}
}

func goodSettings() map[string]string {
	return map[string]string{
		"ServiceBusConnection":  "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=k;SharedAccessKey=a2V5;UseDevelopmentEmulator=true",
		"TablesConnection":      "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a",
		"AZURE_SUBSCRIPTION_ID": "00000000-0000-4000-8000-000000000001",
		"AZURE_RESOURCE_GROUP":  "nodes",
		"AZURE_LOCATION":        "westeurope",
		"DSVM_ARM_TOKEN":        "token",
		"DSVM_SUBNET_ID":        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes",
		"DSVM_SSH_PUBLIC_KEY":   "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIz operator",
		"SHARE_PATH":            "/mnt/share",
	}
}

// On its first start the handler finds no table, and no role of its identity has arrived:
// it answers all the same, says of each request what is missing, and works as soon as the
// role is there. Nothing goes over the network before the port is open.
func TestStartNeedsNoService(t *testing.T) {
	t.Parallel()
	connection, requests, allowed := refusedTables(t)
	settings := goodSettings()
	settings["TablesConnection"] = connection
	home, ended := startHandler(t, settings)
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests to the tables before there was anything to do", n)
	}
	ask := func() (int, string) {
		t.Helper()
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, home+"/api/pools", nil)
		request.Header.Set(invoke.HeaderInvocation, "one")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	if status, body := ask(); status != http.StatusInternalServerError || requests.Load() == 0 {
		t.Errorf("answers %d %s while the role is missing, want an error", status, body)
	}
	allowed.Store(true)
	if status, body := ask(); status != http.StatusOK || !strings.Contains(body, `"items":[]`) {
		t.Errorf("answers %d %s when the role is there, want no pools", status, body)
	}
	select {
	case code := <-ended:
		t.Errorf("the handler ended with %d", code)
	default:
	}
}
