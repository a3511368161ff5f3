package tlsport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// serve starts a server that answers with the scheme of each request. It returns its
// listener and a client that trusts only the server's certificate.
func serve(t *testing.T) (net.Listener, *http.Client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "own.pem")
	certificate, err := OwnCertificate(path, l.Addr().String(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	both := Listen(l, Config(certificate))
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Scheme(r)) })}
	go web.Serve(both)
	t.Cleanup(func() { web.Close() })
	pem, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	return both, &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func TestOnePortForBoth(t *testing.T) {
	t.Parallel()
	l, client := serve(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	silent, err := net.Dial("tcp", l.Addr().String()) // it delays nobody
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			r, err := client.Get(scheme + "://" + net.JoinHostPort(host, port))
			if err != nil {
				t.Error(err)
				continue
			}
			got, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if string(got) != scheme {
				t.Errorf("%s at %s: got %q", scheme, host, got)
			}
		}
	}
	if _, err := http.Get("https://localhost:" + port); err == nil {
		t.Error("a client that does not know the certificate trusts it")
	}
}

// TestCloseEndsSilentConnections closes the listener while a client has sent nothing.
func TestCloseEndsSilentConnections(t *testing.T) {
	t.Parallel()
	l, _ := serve(t)
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	silent.SetReadDeadline(time.Now().Add(greetTimeout / 2))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the end of the connection", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

// TestCertificateIsKept asks for the certificate again: later, for another port, and near
// its end.
func TestCertificateIsKept(t *testing.T) {
	t.Parallel()
	path, now := filepath.Join(t.TempDir(), "own.pem"), time.Now()
	serial := func(addr string, at time.Time) string {
		c, err := OwnCertificate(path, addr, at)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial("127.0.0.1:7000", now)
	if again := serial("127.0.0.1:7000", now.Add(time.Hour)); again != first {
		t.Error("the certificate is replaced without a reason")
	}
	moved := serial("127.0.0.1:7001", now.Add(time.Hour))
	if moved == first {
		t.Error("the certificate stays although the port is another one")
	}
	if renewed := serial("127.0.0.1:7001", now.Add(certificateLife)); renewed == moved {
		t.Error("the certificate stays although it ends")
	}
	for _, file := range []string{path, path + keySuffix} {
		if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v %v, want mode 0600", file, at, err)
		}
	}
}
