package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"dsvmpools/infra"
	"dsvmpools/shared/boot"
	"dsvmpools/shared/pool"
)

// document is the user data of the node.
var document = boot.Document{
	V:      boot.Version,
	Shares: []pool.Share{{Account: "acmedata", Name: "data", Path: "/mnt/data", Protocol: pool.ProtocolSMB, Auth: pool.AuthKey}},
}

// writeTree puts into a tree what Azure and the image would have there: custom data where
// cloud-init looks for it, the names of hosts, and the certificate that the hosts are
// known by. The Service Bus is reached by a connection string, since the local one knows
// no identities.
func writeTree(root, state, agent, bus string) error {
	program, err := os.ReadFile(agent)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	hash := hex.EncodeToString(sum[:])
	data, err := boot.CloudInit(boot.Config{
		Template:            infra.NodeTemplate,
		AgentURL:            "https://" + blobHost + "/agent/" + hash,
		AgentSHA256:         hash,
		ClientID:            clientID,
		ServiceBusNamespace: "acme.servicebus.windows.net",
		Share:               boot.Share{Account: "acmeshare", Name: "dsvm", Auth: pool.AuthKey},
		ShareKeyURL:         "https://" + vaultHost + "/secrets/share-key",
		Shares:              document.Shares,
	})
	if err != nil {
		return err
	}
	certificate, key, err := makeCertificate()
	if err != nil {
		return err
	}
	bundle := filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")
	trusted, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	files := map[string]string{
		filepath.Join(state, "agent"):           string(program),
		filepath.Join(state, "certificate.pem"): string(certificate),
		filepath.Join(state, "key.pem"):         string(key),
		bundle:                                  string(trusted) + string(certificate),
		filepath.Join(root, "etc/hosts"): "127.0.0.1 localhost\n" + hostAddress + " " + blobHost + " " + vaultHost + " " + fileHost + " " +
			dataHost + "\n",
		filepath.Join(root, "etc/dsvmpools/agent.env"): fmt.Sprintf("ServiceBusConnection=%q\nDSVM_DELETE_SELF=false\n",
			"Endpoint=sb://"+bus+";SharedAccessKeyName=node;SharedAccessKey="+busKey+";UseDevelopmentEmulator=true;"),
		filepath.Join(root, "etc/cloud/cloud.cfg.d/90-boottest.cfg"):      "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\n",
		filepath.Join(root, "var/lib/cloud/seed/nocloud/meta-data"):       "instance-id: " + vmid + "\nlocal-hostname: node\n",
		filepath.Join(root, "var/lib/cloud/seed/nocloud/user-data"):       string(data),
		filepath.Join(root, "etc/systemd/journald.conf.d/forward.conf"):   "[Journal]\nForwardToConsole=no\n",
		filepath.Join(root, "etc/systemd/system.conf.d/10-boottest.conf"): "[Manager]\nDefaultTimeoutStopSec=10s\n",
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeCertificate makes a certificate for the hosts, signed by itself, for a day.
func makeCertificate() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "boottest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		DNSNames:              []string{blobHost, vaultHost},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}
