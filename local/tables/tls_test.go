package tables

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/local/internal/tlsport"
)

// TestTLS has the same account by https and by HTTP on one port. Links in answers have the
// scheme of the request.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, err := tlsport.OwnCertificate(filepath.Join(dir, "own.pem"), "127.0.0.1:1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(Config{
		Addr:    "127.0.0.1:0",
		Path:    filepath.Join(dir, "tables.db"),
		Account: testAccount,
		Key:     testKey,
		TLS:     tlsport.Config(certificate),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	full := aztables.MetadataFormatFull
	for scheme, text := range map[string]string{"http": s.ConnectionString(), "https": s.SecureConnectionString()} {
		o := options()
		o.Transport = &http.Client{Transport: transport}
		service, err := aztables.NewServiceClientFromConnectionString(text, o)
		if err != nil {
			t.Fatal(err)
		}
		c := service.NewClient("by" + scheme)
		if _, err := c.CreateTable(deadline(t), nil); err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		if _, err := c.AddEntity(deadline(t), row("p", "r"), nil); err != nil {
			t.Error(err)
		}
		got, err := c.GetEntity(deadline(t), "p", "r", &aztables.GetEntityOptions{Format: &full})
		if err != nil || !strings.Contains(string(got.Value), `"odata.id":"`+scheme+`://`) {
			t.Errorf("%s: got %s %v", scheme, got.Value, err)
		}
	}
}
