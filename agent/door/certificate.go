package door

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"sync"
	"time"

	"dsvmpools/shared/wholefile"
)

const (
	// selfLife is how long a certificate that the door makes for itself is good for: as long as
	// a node may live.
	selfLife = 365 * 24 * time.Hour
	// certAge is how old what was read of a file gets: a vault renews it below our feet.
	certAge = time.Minute
	maxCert = 256 << 10
)

// certificates are by which browsers know the door: of a file of somebody's, with a key and the
// certificates for it in PEM, as the extension for vaults writes them; or one that the door has
// made for itself, of which browsers warn.
type certificates struct {
	mu   sync.Mutex
	path string // of somebody's file; "" = the door's own
	own  string // path of the door's own
	read *tls.Certificate
	at   time.Time
}

// use has the certificate taken from a file; "" = the door's own.
func (c *certificates) use(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path != path {
		c.path, c.read = path, nil
	}
}

// config is that of a server. One certificate is read now and then; if that fails, the earlier
// one stays.
func (c *certificates) config() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil || time.Since(c.at) > certAge {
		found, err := c.load()
		if err != nil && c.read == nil {
			return nil, err
		}
		if err == nil {
			c.read = &found
		}
		c.at = time.Now()
	}
	return &tls.Config{Certificates: []tls.Certificate{*c.read}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

func (c *certificates) load() (tls.Certificate, error) {
	if c.path != "" {
		found, err := readCertificate(c.path)
		if err != nil {
			err = fmt.Errorf("the certificate of DSVM_DOOR_CERTIFICATE cannot be used; have a key and its certificates in PEM there: %w", err)
		}
		return found, err
	}
	found, err := readCertificate(c.own)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeCertificate(c.own, time.Now()); err == nil {
			found, err = readCertificate(c.own)
		}
	}
	return found, err
}

// readCertificate reads a file with a key and certificates, in any order.
func readCertificate(path string) (tls.Certificate, error) {
	in, err := os.Open(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxCert))
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(text, text)
}

// makeCertificate makes a certificate that is signed by itself, with its key.
func makeCertificate(path string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: "door of a node"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(selfLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"door.invalid"},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, block := range []pem.Block{{Type: "PRIVATE KEY", Bytes: private}, {Type: "CERTIFICATE", Bytes: certificate}} {
		if err := pem.Encode(&out, &block); err != nil {
			return err
		}
	}
	return wholefile.Replace(path, out.Bytes(), 0o600)
}
