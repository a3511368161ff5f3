package sshca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/sshca"
)

// person is a key pair in files, as the command line makes it.
func person(t *testing.T) (file, public string) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "id_ed25519")
	writeFile(t, file, string(pem.EncodeToMemory(block)), 0o600)
	return file, string(ssh.MarshalAuthorizedKey(key))
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// authorities are one of each kind, both with keys of their own.
func authorities(t *testing.T) map[string]*sshca.Authority {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ssh_ca.pem")
	for range 2 { // the second time changes nothing
		if err := sshca.CreateFile(path); err != nil {
			t.Fatal(err)
		}
	}
	file, err := sshca.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*sshca.Authority{"file": file, "vault": newVault(t).authority(t)}
}

func TestCertificateSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	_, public := person(t)
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for name, ca := range authorities(t) {
		got, err := ca.Sign(t.Context(), sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: at})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Principal != "session:01J" || !got.ValidBefore.Equal(at.Add(sshca.Life)) {
			t.Errorf("%s: got %+v", name, got)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.Line))
		if err != nil {
			t.Fatal(err)
		}
		cert := key.(*ssh.Certificate)
		trusted, err := ca.PublicKey(t.Context())
		if err != nil || trusted != strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert.SignatureKey))) {
			t.Errorf("%s: signed by another key than %q, %v", name, trusted, err)
		}
		for after, want := range map[time.Duration]bool{-61 * time.Second: false, -59 * time.Second: true, 0: true,
			sshca.Life - time.Second: true, sshca.Life: false} {
			checker := ssh.CertChecker{Clock: func() time.Time { return at.Add(after) }}
			if err := checker.CheckCert("session:01J", cert); (err == nil) != want {
				t.Errorf("%s: %s later: %v, want it good: %t", name, after, err, want)
			}
		}
		if cert.KeyId != "ann 01J" || len(cert.ValidPrincipals) != 1 || len(cert.CriticalOptions) != 0 || len(cert.Extensions) != 3 {
			t.Errorf("%s: got %+v", name, cert)
		}
	}
}

func TestSignRefusesBadKeys(t *testing.T) {
	t.Parallel()
	_, public := person(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := ssh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := authorities(t)["file"]
	cert, err := ca.Sign(t.Context(), sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no key": "ssh-ed25519 AAAA", "with options": `command="id" ` + public, "two": public + public,
		"long": public + strings.Repeat(" ", 9000), "a certificate": cert.Line, "weak": string(ssh.MarshalAuthorizedKey(weakKey)),
	} {
		if got, err := ca.Sign(t.Context(), sshca.Login{PublicKey: text, User: "ann", For: sshca.Principal("01J"), At: time.Now()}); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestOpenFileRefusesWhatOthersMayRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no such modes here")
	}
	file, _ := person(t)
	if _, err := sshca.OpenFile(file); err != nil {
		t.Fatalf("a file of ssh-keygen's form: %v", err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := sshca.OpenFile(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
	writeFile(t, file, "no key", 0o600)
	if _, err := sshca.OpenFile(file); err == nil {
		t.Error("a text is taken for a key")
	}
}

func TestOpenVaultRefusesOtherURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "http://v.vault.azure.net/keys/a", "https://v.vault.azure.net/secrets/a", "https://v.vault.azure.net/keys",
		"https://v.vault.azure.net/keys/a/b/c", "https://u@v.vault.azure.net/keys/a", "/etc/key"} {
		if _, err := sshca.OpenVault(sshca.Vault{URL: url}); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// A vault that fails, or answers with something else, leads to an error and to no certificate.
func TestVaultThatFails(t *testing.T) {
	t.Parallel()
	_, public := person(t)
	for name, spoil := range map[string]func(v *vault){
		"another key":     func(v *vault) { v.other = true },
		"short signature": func(v *vault) { v.short = true },
		"forbidden":       func(v *vault) { v.forbidden = true },
		"another curve":   func(v *vault) { v.curve = "P-384" },
	} {
		v := newVault(t)
		spoil(v)
		got, err := v.authority(t).Sign(t.Context(), sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: time.Now()})
		if err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	v := newVault(t)
	ca := v.authority(t)
	for range 3 {
		if _, err := ca.Sign(t.Context(), sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if reads := v.reads.Load(); reads != 1 {
		t.Errorf("the public key was read %d times", reads)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ca.Sign(ctx, sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: time.Now()}); err == nil {
		t.Error("signed after the request had ended")
	}
}

// OpenSSH reads what was signed, and its server lets it in: with the right principal alone.
func TestOpenSSHTakesCertificates(t *testing.T) {
	t.Parallel()
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("there is no ssh-keygen")
	}
	file, public := person(t)
	for name, ca := range authorities(t) {
		cert, err := ca.Sign(t.Context(), sshca.Login{PublicKey: public, User: "ann", For: sshca.Principal("01J"), At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file+"-cert.pub", cert.Line+"\n", 0o600)
		out, err := exec.CommandContext(t.Context(), keygen, "-L", "-f", file+"-cert.pub").CombinedOutput()
		for _, want := range []string{`Key ID: "ann 01J"`, "session:01J", "permit-pty", "permit-port-forwarding", "Signing CA: ECDSA"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, %q is not in:\n%s", name, err, want, out)
			}
		}
		trusted, err := ca.PublicKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for principal, want := range map[string]bool{"session:01J": true, "session:01K": false} {
			if out, in := login(t, file, trusted, principal); in != want {
				t.Errorf("%s: a node that lets in %s: got in: %t\n%s", name, principal, in, out)
			}
		}
	}
}

// login starts a server for one connection, which ssh reaches by a pipe.
func login(t *testing.T, identity, trusted, principal string) (string, bool) {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("there is no sshd")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd asks for it
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	hostKey, _ := person(t)
	writeFile(t, filepath.Join(dir, "ca.pub"), trusted+"\n", 0o644)
	writeFile(t, filepath.Join(dir, "principals"), principal+"\n", 0o644)
	writeFile(t, filepath.Join(dir, "sshd_config"), fmt.Sprintf("HostKey %s\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\n"+
		"AuthorizedKeysFile none\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"+
		"PermitRootLogin prohibit-password\n", hostKey, filepath.Join(dir, "ca.pub"), filepath.Join(dir, "principals")), 0o644)
	me := os.Getenv("USER")
	if me == "" {
		me = "root"
	}
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-i", identity, "-o", "CertificateFile="+identity+"-cert.pub",
		"-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
		"-o", "ProxyCommand="+sshd+" -i -f "+filepath.Join(dir, "sshd_config"), me+"@node", "echo", "in-"+"side").CombinedOutput()
	return string(out), err == nil && strings.Contains(string(out), "in-side")
}

// vault answers as Azure Key Vault does for one EC key.
type vault struct {
	key                     *ecdsa.PrivateKey
	server                  *httptest.Server
	reads                   atomic.Int32
	curve                   string
	other, short, forbidden bool
}

func newVault(t *testing.T) *vault {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{key: key, curve: "P-256"}
	v.server = httptest.NewTLSServer(v)
	t.Cleanup(v.server.Close)
	return v
}

func (v *vault) authority(t *testing.T) *sshca.Authority {
	t.Helper()
	ca, err := sshca.OpenVault(sshca.Vault{URL: "https://dsvm.vault.azure.net/keys/ssh-ca", Credential: token{}, Transport: v})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Do brings a request for the vault to the server of the test.
func (v *vault) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = v.server.Listener.Addr().String()
	return v.server.Client().Do(r)
}

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer t" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id := "https://dsvm.vault.azure.net/keys/ssh-ca/0123456789abcdef0123456789abcdef"
	text := base64.RawURLEncoding.EncodeToString
	switch {
	case v.forbidden:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodGet && strings.TrimSuffix(r.URL.Path, "/") == "/keys/ssh-ca":
		v.reads.Add(1)
		point, err := v.key.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"key": map[string]any{"kid": id, "kty": "EC", "crv": v.curve,
			"x": text(point[1:33]), "y": text(point[33:])}})
	case r.Method == http.MethodPost && r.URL.Path == strings.TrimPrefix(id, "https://dsvm.vault.azure.net")+"/sign":
		var asked struct{ Alg, Value string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Alg != "ES256" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		digest, err := base64.RawURLEncoding.DecodeString(asked.Value)
		if err != nil || len(digest) != 32 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		key := v.key
		if v.other {
			key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		a, b, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			panic(err)
		}
		raw := make([]byte, 64)
		a.FillBytes(raw[:32])
		b.FillBytes(raw[32:])
		if v.short {
			raw = raw[1:]
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kid": id, "value": text(raw)})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
