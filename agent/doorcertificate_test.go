//go:build unix

package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/agent/secret"
	"dsvmpools/shared/job"
)

// The door's certificate comes from a vault to a file that its owner alone reads, as soon as a session needs
// it; what is none stays out; and no job may have its key.
func TestDoorCertificateFromAVault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "secrets.json")
	put := func(value string) {
		t.Helper()
		text, err := json.Marshal(map[string]string{"contoso/door": value})
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{InstanceDir: dir, DoorCertificate: "keyvault:contoso/door"}
	own, _ := job.ParseSecretRef(cfg.DoorCertificate)
	secrets, err := secret.New(secret.Config{File: file, Own: own})
	if err != nil {
		t.Fatal(err)
	}
	s := &sessions{notebook: &notebook{log: slog.New(slog.DiscardHandler)}, cfg: cfg, secrets: secrets, certificateWanted: make(chan struct{}, 1)}
	put("a PFX as base64")
	if err := s.readCertificate(t.Context()); !errors.Is(err, errNoPEM) || exists(s.certificateFile()) {
		t.Errorf("what is no PEM: %v", err)
	}
	text := newCertificate(t)
	put(text)
	go s.keepCertificate(t.Context())
	s.wantCertificate()
	s.wantCertificate()
	eventually(t, "the file of the certificate", func() bool { return exists(s.certificateFile()) })
	got, err := os.ReadFile(s.certificateFile())
	at, failed := os.Stat(s.certificateFile())
	if err != nil || failed != nil || string(got) != text || at.Mode() != 0o600 {
		t.Errorf("the file has %d bytes with the mode %v: %v, %v", len(got), at.Mode(), err, failed)
	}
	if _, err := secrets.ReadAll(t.Context(), map[string]string{"KEY": "keyvault:Contoso/DOOR"}); err == nil || !strings.Contains(err.Error(), "no job may have") {
		t.Errorf("a job gets the key of the door: %v", err)
	}
}

// newCertificate is a key and its certificate, in PEM.
func newCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"lab.contoso.com"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, block := range []pem.Block{{Type: "PRIVATE KEY", Bytes: private}, {Type: "CERTIFICATE", Bytes: certificate}} {
		if err := pem.Encode(&out, &block); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
