package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

const cloudHosts = "*.table.core.windows.net"

// proxy stands between the client's tests, which know the service's host names
// only, and the local tables: it takes CONNECT for whatever host, ends TLS with
// a certificate of its own, and hands the requests on, host name and all.
type proxy struct {
	addr   string
	caFile []byte // the certificate, for SSL_CERT_FILE
	close  func()
}

func startProxy(backend string) (*proxy, error) {
	cert, caFile, err := certificate()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	tunnels := &tunnels{conns: make(chan net.Conn), closed: make(chan struct{}), addr: listener.Addr()}
	inner := &http.Server{ErrorLog: quiet, ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		ErrorLog: quiet,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", backend, r.In.Host
		},
	}}
	outer := &http.Server{
		ErrorLog:          quiet,
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect {
				http.Error(w, "this proxy takes CONNECT only", http.StatusMethodNotAllowed)
				return
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			tunnels.put(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}))
		}),
	}
	go outer.Serve(listener)
	go inner.Serve(tunnels)
	return &proxy{addr: listener.Addr().String(), caFile: caFile, close: func() {
		outer.Close()
		inner.Close()
	}}, nil
}

// tunnels is a listener whose connections come out of the proxy.
type tunnels struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (t *tunnels) put(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		c.Close()
	}
}

func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

func (t *tunnels) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

func (t *tunnels) Addr() net.Addr { return t.addr }

// certificate makes one for the service's host names, for the time of a run.
func certificate() (tls.Certificate, []byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "local tables"}, DNSNames: []string{cloudHosts},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{
			Certificate: [][]byte{der},
			PrivateKey:  private,
		}, pem.EncodeToMemory(
			&pem.Block{Type: "CERTIFICATE", Bytes: der},
		), nil
}
