package sshca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/fault"
)

// Vault says which key of Azure Key Vault signs.
type Vault struct {
	// URL is that of an EC key on the curve P-256: https://VAULT.vault.azure.net/keys/NAME,
	// or with /VERSION behind it. Without a version, a process signs with the one that is
	// the newest when it first needs it.
	URL        string
	Credential azcore.TokenCredential // may do "get" and "sign" with that key, and needs nothing more
	Transport  policy.Transporter     // nil = the SDK's own
}

// OpenVault returns the authority whose key is in a vault. It sends nothing before the key
// is needed. A URL that names no key is fault.Invalid. The SDK tries again what the vault
// refuses for a moment.
func OpenVault(c Vault) (*Authority, error) {
	u, err := url.Parse(c.URL)
	parts := []string{}
	if err == nil {
		parts = strings.Split(strings.Trim(u.Path, "/"), "/")
	}
	isKey := err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == ""
	if !isKey || len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" {
		return nil, fault.New(fault.Invalid, "DSVM_SSH_CA", "DSVM_SSH_CA names no key of a vault; write https://VAULT.vault.azure.net/keys/NAME")
	}
	options := &azkeys.ClientOptions{}
	options.Transport = c.Transport
	client, err := azkeys.NewClient("https://"+u.Host, c.Credential, options)
	if err != nil {
		return nil, fmt.Errorf("the vault of DSVM_SSH_CA cannot be used: %w", err)
	}
	v := &vaultKey{client: client, name: parts[1]}
	if len(parts) == 3 {
		v.version = parts[2]
	}
	return &Authority{v.signer}, nil
}

// vaultKey is a key that is in a vault.
type vaultKey struct {
	client *azkeys.Client
	name   string

	mu      sync.Mutex
	version string           // "" = the newest, not read yet
	public  *ecdsa.PublicKey // nil = not read yet
}

// signer returns a signer whose requests to the vault end with ctx.
func (v *vaultKey) signer(ctx context.Context) (ssh.Signer, error) {
	public, version, err := v.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("the key that signs SSH certificates cannot be read from its vault: %w", err)
	}
	return ssh.NewSignerFromSigner(digestSigner{public, func(digest []byte) ([]byte, error) {
		algorithm := azkeys.SignatureAlgorithmES256
		answer, err := v.client.Sign(ctx, v.name, version, azkeys.SignParameters{Algorithm: &algorithm, Value: digest}, nil)
		return answer.Result, err
	}})
}

// read reads the public half and the version of the key, once.
func (v *vaultKey) read(ctx context.Context) (*ecdsa.PublicKey, string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.public != nil {
		return v.public, v.version, nil
	}
	answer, err := v.client.GetKey(ctx, v.name, v.version, nil)
	if err != nil {
		return nil, "", err
	}
	key := answer.Key
	if key == nil || key.KID == nil || key.Crv == nil || *key.Crv != azkeys.CurveNameP256 {
		return nil, "", errors.New("it is no EC key on the curve P-256")
	}
	point := make([]byte, 1, 1+2*coordinate)
	point[0] = 4 // uncompressed, after SEC 1
	for _, part := range [][]byte{key.X, key.Y} {
		if len(part) > coordinate {
			return nil, "", errors.New("its point is longer than the curve P-256 has it")
		}
		point = append(append(point, make([]byte, coordinate-len(part))...), part...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, "", err
	}
	v.public, v.version = public, key.KID.Version()
	return v.public, v.version, nil
}

// coordinate is the length in bytes of a coordinate, and of each half of a signature, on the
// curve P-256.
const coordinate = 32

// digestSigner is a crypto.Signer over something that signs digests, and answers with the
// two numbers of the signature side by side, as ES256 has them (RFC 7518, 3.4).
type digestSigner struct {
	public *ecdsa.PublicKey
	sign   func(digest []byte) ([]byte, error)
}

func (s digestSigner) Public() crypto.PublicKey { return s.public }

// Sign returns the signature as ASN.1, which crypto.Signer asks for.
func (s digestSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	raw, err := s.sign(digest)
	if err != nil {
		return nil, err
	}
	if len(raw) != 2*coordinate {
		return nil, fmt.Errorf("the vault's signature has %d bytes, and ES256 has %d", len(raw), 2*coordinate)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:coordinate]), new(big.Int).SetBytes(raw[coordinate:])})
}
