package tlsport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

// Times of a certificate.
const (
	certificateLife  = 2 * 365 * 24 * time.Hour
	certificateRenew = 30 * 24 * time.Hour // before its end
)

// keySuffix, after the path of the certificate, is the file with its private key.
const keySuffix = ".key"

// OwnCertificate returns the certificate that the files at path hold for an address. It
// makes a new one if there is none, if the kept one names another port, or if that one ends
// soon. It signs itself, so a client that trusts the file at path trusts the servers with its
// key and no other. addr is a host:port; the certificate is for every port of localhost, but
// some clients verify this one as a part of the name.
func OwnCertificate(path, addr string, now time.Time) (tls.Certificate, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return tls.Certificate{}, err
	}
	// Some clients verify the host with its port, as if that were a name.
	names := []string{"localhost", net.JoinHostPort("localhost", port), net.JoinHostPort("127.0.0.1", port)}
	if kept, err := tls.LoadX509KeyPair(path, path+keySuffix); err == nil {
		if slices.Equal(kept.Leaf.DNSNames, names) && now.Add(certificateRenew).Before(kept.Leaf.NotAfter) {
			return kept, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "dsvm up"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(certificateLife),
		DNSNames:              names,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, f := range []struct {
		path  string
		block pem.Block
	}{{path + keySuffix, pem.Block{Type: "PRIVATE KEY", Bytes: secret}}, {path, pem.Block{Type: "CERTIFICATE", Bytes: der}}} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&f.block), 0o600); err != nil {
			return tls.Certificate{}, fmt.Errorf("keeping the certificate failed: %w", err)
		}
	}
	return tls.LoadX509KeyPair(path, path+keySuffix)
}
