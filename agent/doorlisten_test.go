//go:build unix

package agent

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

func TestDoorListenIsChecked(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		":443": true, "10.1.0.4:443": true, "127.0.0.1:0": true, ":0": true, "off": true, "[::1]:7": true,
		"443": false, "localhost:443": false, ":": false, ":65536": false, ":-1": false, ":00": false, "on": false, "10.1.0.4": false,
	} {
		if err := checkDoorListen(address); (err == nil) != want || err != nil && fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestDoorAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(listen, address string) (string, string) {
		t.Helper()
		l, inside, err := doorAddress(Config{DoorListen: listen, Address: address, InstanceDir: dir})
		if err != nil {
			t.Fatalf("%s: %v", listen, err)
		}
		return l, inside
	}
	for _, c := range []struct{ listen, address, want, inside string }{
		{":443", "10.1.0.4", ":443", "10.1.0.4:443"},
		{"0.0.0.0:443", "10.1.0.4", "0.0.0.0:443", "10.1.0.4:443"},
		{"10.1.0.5:443", "10.1.0.4", "10.1.0.5:443", "10.1.0.5:443"},
		{"off", "10.1.0.4", "", ""},
		{"", "10.1.0.4", "", ""},
	} {
		if listen, inside := at(c.listen, c.address); listen != c.want || inside != c.inside {
			t.Errorf("%s: got %s, %s", c.listen, listen, inside)
		}
	}
	if _, _, err := doorAddress(Config{DoorListen: ":443", Address: "a.name"}); err == nil {
		t.Error("a name is an address")
	}
	// A port of the machine's choice stays, if it can.
	first, inside := at("127.0.0.1:0", "10.1.0.4")
	if first != inside {
		t.Errorf("it listens at %s, and is found at %s", first, inside)
	}
	if again, _ := at("127.0.0.1:0", ""); again != first {
		t.Errorf("it was %s, and is %s", first, again)
	}
	taken, err := net.Listen("tcp", first)
	if err != nil {
		t.Skip("the port was taken meanwhile")
	}
	defer taken.Close()
	if again, _ := at("127.0.0.1:0", ""); again == first {
		t.Error("another one has the port, and it was not changed")
	}
	if err := os.WriteFile(filepath.Join(dir, "doors", "port"), []byte("no port"), 0o600); err != nil {
		t.Fatal(err)
	}
	at("127.0.0.1:0", "")
}

// The document is that of Microsoft's page about it.
func TestPublicAddress(t *testing.T) {
	t.Parallel()
	const document = `{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"51.0.0.9","privateIpAddress":"10.1.0.9"},
		{"frontendIpAddress":"51.0.0.1","privateIpAddress":"10.1.0.4"}],"inboundRules":[{"frontendIpAddress":"50.0.0.1","protocol":"tcp",
		"frontendPort":22,"backendPort":443,"privateIpAddress":"10.1.0.4"}],"outboundRules":[]}}`
	for _, c := range []struct {
		name, answer string
		status       int
		inside, want string
	}{
		{"its own", document, 200, "10.1.0.4:443", "51.0.0.1:443"},
		{"of others alone", document, 200, "10.1.0.7:443", ""},
		{"without a document", `{"error":"No load balancer metadata is found."}`, 404, "10.1.0.4:443", ""},
		{"that is none", `{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"x","privateIpAddress":"10.1.0.4"}]}}`, 200, "10.1.0.4:443", ""},
		{"on one machine", "", 500, "127.0.0.1:7", "127.0.0.1:7"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata") != "true" || r.URL.Path != "/metadata/loadbalancer" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.answer)
		}))
		t.Cleanup(server.Close)
		s := &sessions{notebook: &notebook{log: slog.New(slog.DiscardHandler)}, cfg: Config{Metadata: server.URL}, doorInside: c.inside}
		if got := s.listens(t.Context()); *got != (protocol.Listens{Public: c.want, Inside: c.inside}) {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
	if got := (&sessions{}).listens(t.Context()); got != nil {
		t.Errorf("a node without a door listens at %+v", got)
	}
}
