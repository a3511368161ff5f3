// Package seal closes a short secret to the key of one person's machine, so that what lies
// between, which passes it on and keeps it, learns nothing of it: HPKE (RFC 9180) with
// X25519, HKDF-SHA256 and ChaCha20-Poly1305.
//
// It says nothing about who has sealed something: whoever knows the public key can. It knows
// no session and keeps nothing.
package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"

	"dsvmpools/shared/fault"
)

// maxText bounds a key and what was sealed, in characters: both come from outside.
const maxText = 1 << 10

var text = base64.StdEncoding

func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.ChaCha20Poly1305() }

// Key opens what was sealed to its public half.
type Key struct{ private hpke.PrivateKey }

// NewKey makes a key.
func NewKey() (Key, error) {
	private, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	return Key{private}, err
}

// ParseKey reads what Private has written.
func ParseKey(private string) (Key, error) {
	raw, err := decode(private)
	if err != nil {
		return Key{}, err
	}
	k, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(raw)
	if err != nil {
		return Key{}, fault.New(fault.Invalid, "", "the key is none of X25519")
	}
	return Key{k}, nil
}

// Private is the whole key as base64: it is for its owner's file alone.
func (k Key) Private() (string, error) {
	raw, err := k.private.Bytes()
	return text.EncodeToString(raw), err
}

// Public is the public half: 32 bytes as base64.
func (k Key) Public() string { return text.EncodeToString(k.private.PublicKey().Bytes()) }

// Open opens what was sealed to the key for a purpose. The error says that it was sealed to
// another key or for another purpose, or was changed.
func (k Key) Open(sealed, purpose string) (string, error) {
	raw, err := decode(sealed)
	if err != nil {
		return "", err
	}
	kdf, aead := suite()
	secret, err := hpke.Open(k.private, kdf, aead, []byte(purpose), raw)
	if err != nil {
		return "", fault.New(fault.Invalid, "", "what was sealed is not for the key of this machine, or was changed on its way")
	}
	return string(secret), nil
}

// CheckPublic returns an error with the code Invalid unless something can be sealed to the key.
func CheckPublic(field, public string) error {
	if _, err := parsePublic(public); err != nil {
		return fault.New(fault.Invalid, field,
			"`%s` is no key that a secret can be sealed to; write the 32 bytes of an X25519 key as base64", field)
	}
	return nil
}

// Seal closes a secret to a public key, as base64. It is opened for the same purpose alone.
func Seal(public, purpose, secret string) (string, error) {
	key, err := parsePublic(public)
	if err != nil {
		return "", err
	}
	kdf, aead := suite()
	sealed, err := hpke.Seal(key, kdf, aead, []byte(purpose), []byte(secret))
	return text.EncodeToString(sealed), err
}

func parsePublic(public string) (hpke.PublicKey, error) {
	raw, err := decode(public)
	if err != nil {
		return nil, err
	}
	return hpke.DHKEM(ecdh.X25519()).NewPublicKey(raw)
}

func decode(s string) ([]byte, error) {
	raw, err := text.DecodeString(s)
	if err != nil || len(s) > maxText {
		return nil, fault.New(fault.Invalid, "", "it is no base64 of a key or of what was sealed")
	}
	return raw, nil
}
