package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/servicebus"
)

// host is a loopback address that is not 127.0.0.1.
const host = "127.0.0.2"

// queues are those that the tests expect to find.
var queues = []servicebus.QueueConfig{{Name: "testQueue"}, {Name: "testQueueWithSessions", RequiresSession: true}}

var rules = []servicebus.AccessKey{
	{Name: "RootManageSharedAccessKey", Key: "cm9vdA==", Send: true, Listen: true, Manage: true},
	{Name: "NoManage", Key: "bm9tYW5hZ2U=", Send: true, Listen: true},
	{Name: "SendOnly", Key: "c2VuZA==", Send: true},
	{Name: "ListenOnly", Key: "bGlzdGVu", Listen: true},
}

// servers starts a Standard and a Premium namespace and returns the environment
// that the tests read.
func (s *suite) servers() (env []string, stop func(), err error) {
	dir, err := os.MkdirTemp(s.dir, "bus")
	if err != nil {
		return nil, nil, err
	}
	var running []*servicebus.Server
	stop = func() {
		for _, server := range running {
			err = errors.Join(err, server.Close())
		}
		os.RemoveAll(dir)
	}
	for _, premium := range []bool{false, true} {
		config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.ca.certificate()}
		server, err := servicebus.Start(
			servicebus.Config{Addr: host + ":0", Path: filepath.Join(dir, fmt.Sprint(premium)), Queues: queues, AccessKeys: rules,
				TLS: config, Premium: premium, TrustBearer: true},
		)
		if err != nil {
			stop()
			return nil, nil, err
		}
		running = append(running, server)
	}
	standard, premium := running[0], running[1]
	return []string{"AZURE_RECORD_MODE=live", "AZURE_TOKEN_CREDENTIALS=AzureCLICredential", "SSL_CERT_FILE=" + s.ca.file,
		// Whatever the tests look for elsewhere, a login host, is not there.
		"HTTPS_PROXY=http://127.0.0.1:1",
		"SERVICEBUS_ENDPOINT=" + standard.Addr(), "SERVICEBUS_ENDPOINT_PREMIUM=" + premium.Addr(),
		"SERVICEBUS_CONNECTION_STRING=" + standard.ConnectionString("RootManageSharedAccessKey"),
		"SERVICEBUS_CONNECTION_STRING_PREMIUM=" + premium.ConnectionString("RootManageSharedAccessKey"),
		"SERVICEBUS_CONNECTION_STRING_NO_MANAGE=" + standard.ConnectionString("NoManage"),
		"SERVICEBUS_CONNECTION_STRING_SEND_ONLY=" + standard.ConnectionString("SendOnly"),
		"SERVICEBUS_CONNECTION_STRING_LISTEN_ONLY=" + standard.ConnectionString("ListenOnly")}, stop, nil
}

// authority is a certificate authority of this run.
type authority struct {
	file string // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(file string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "conformance"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{file, cert, key}, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

// certificate makes the one of a server when it is first asked for: its address
// is known only then.
func (a *authority) certificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var once sync.Once
	var made *tls.Certificate
	var err error
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		once.Do(func() { made, err = a.issue(hello.Conn.LocalAddr().String()) })
		return made, err
	}
}

// issue makes a certificate for an address. Clients of a port that is not the
// usual one ask for the name "host:port".
func (a *authority) issue(addr string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ip, _, _ := strings.Cut(addr, ":")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: ip},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{addr},
		IPAddresses:  []net.IP{net.ParseIP(ip)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
