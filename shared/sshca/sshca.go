// Package sshca signs the SSH certificates with which people reach their sessions and running jobs, and operators nodes. The key
// is in a vault of Azure, which signs digests and never shows it, or on one machine in a
// file that only its owner may read.
//
// It does not decide who gets a certificate: shared/service does. It keeps none, and logs
// nothing.
package sshca

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/fault"
)

const (
	// Life is how long a certificate is good for. It is asked for at each login, so that it
	// only has to outlive that.
	Life = 15 * time.Minute
	// early lets the clock of a node be behind that of the app.
	early = time.Minute
	// maxPublicKey bounds the line of a public key: RSA with 16384 bits has 2.8 KB.
	maxPublicKey = 8 << 10
	// minRSA is what OpenSSH takes of RSA by itself (RequiredRSASize is less).
	minRSA = 2048
)

// signers returns a signer that lives as long as ctx.
type signers func(ctx context.Context) (ssh.Signer, error)

// Authority signs certificates.
type Authority struct{ signer signers }

// Login is what a certificate is good for.
type Login struct {
	PublicKey string // of the person, a line of OpenSSH
	User      string // the account's name
	For       string // what it lets in to, and nothing else: Principal of a session, or protocol.EntryOfAttempt or EntryOfNode
	At        time.Time
}

// Certificate is a signed certificate.
type Certificate struct {
	Line        string // as in the file of OpenSSH, without a line end
	Principal   string
	ValidBefore time.Time
}

// Principal is the name that a node lets in for a session, and no other name. A node takes
// it away when the session ends, and with it every certificate that is still good.
func Principal(session string) string { return sessionPrefix + session }

// sessionPrefix is what the principals of sessions begin with.
const sessionPrefix = "session:"

// PublicKey is the key that nodes trust, as a line of OpenSSH without a line end.
func (a *Authority) PublicKey(ctx context.Context) (string, error) {
	signer, err := a.signer(ctx)
	if err != nil {
		return "", err
	}
	return line(signer.PublicKey()), nil
}

// Sign makes a certificate for one session, one attempt or one node. A key that is none, or too weak, is
// fault.Invalid with the field "publicKey".
func (a *Authority) Sign(ctx context.Context, want Login) (Certificate, error) {
	key, err := parsePublicKey(want.PublicKey)
	if err != nil {
		return Certificate{}, err
	}
	signer, err := a.signer(ctx)
	if err != nil {
		return Certificate{}, err
	}
	var serial [8]byte
	rand.Read(serial[:])
	cert := &ssh.Certificate{
		Key:             key,
		Serial:          binary.BigEndian.Uint64(serial[:]),
		CertType:        ssh.UserCert,
		KeyId:           want.User + " " + strings.TrimPrefix(want.For, sessionPrefix), // the log of the node's SSH server has it
		ValidPrincipals: []string{want.For},
		ValidAfter:      uint64(want.At.Add(-early).Unix()), //nolint:gosec // a time after 1970
		ValidBefore:     uint64(want.At.Add(Life).Unix()),   //nolint:gosec // a time after 1970
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "",
		}},
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		return Certificate{}, fmt.Errorf("signing the certificate for %s: %w", want.For, err)
	}
	judge := ssh.CertChecker{Clock: func() time.Time { return want.At }}
	if err := judge.CheckCert(want.For, cert); err != nil {
		return Certificate{}, fmt.Errorf("the vault has not signed with the key that it shows: %w", err)
	}
	return Certificate{
		Line:        line(cert),
		Principal:   want.For,
		ValidBefore: want.At.Add(Life).UTC().Truncate(time.Second),
	}, nil
}

// line is a key or a certificate as OpenSSH writes it into a file.
func line(key ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
}

// parsePublicKey reads one public key that a person may log in with.
func parsePublicKey(text string) (ssh.PublicKey, error) {
	const field = "publicKey"
	if len(text) > maxPublicKey {
		return nil, fault.New(fault.Invalid, field,
			"`publicKey` is longer than %d bytes; send one line of OpenSSH, such as that of id_ed25519.pub", maxPublicKey)
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, fault.New(fault.Invalid, field, "`publicKey` is no public key; send one line of OpenSSH, such as that of id_ed25519.pub")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return key, nil
	case ssh.KeyAlgoRSA:
		if bits := rsaBits(key); bits < minRSA {
			return nil, fault.New(fault.Invalid, field, "`publicKey` is an RSA key of %d bits; make a better one with `ssh-keygen -t ed25519`", bits)
		}
		return key, nil
	}
	return nil, fault.New(fault.Invalid, field,
		"`publicKey` is of type %.50q, which is not taken; make one with `ssh-keygen -t ed25519`", key.Type())
}
