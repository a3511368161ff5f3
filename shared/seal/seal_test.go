package seal_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"dsvmpools/shared/seal"
)

const (
	purpose = "the desktop of s1"
	secret  = "correct horse"
)

func newKey(t *testing.T) seal.Key {
	t.Helper()
	k, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedIsOpenedByItsKeyAlone(t *testing.T) {
	t.Parallel()
	mine := newKey(t)
	private, err := mine.Private()
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.ParseKey(private) // as read from its file
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.Seal(mine.Public(), purpose, secret)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sealed, secret) || strings.Contains(sealed, base64.StdEncoding.EncodeToString([]byte(secret))) {
		t.Error("the secret can be read without the key")
	}
	if got, err := again.Open(sealed, purpose); err != nil || got != secret {
		t.Errorf("got %q, %v", got, err)
	}
	if other, err := seal.Seal(mine.Public(), purpose, secret); err != nil || other == sealed {
		t.Errorf("sealed twice, it is the same: %v", err)
	}
	changed := []byte(sealed)
	changed[len(changed)/2] ^= 1
	for name, try := range map[string]func() (string, error){
		"another key":     func() (string, error) { return newKey(t).Open(sealed, purpose) },
		"another purpose": func() (string, error) { return mine.Open(sealed, "the desktop of s2") },
		"changed":         func() (string, error) { return mine.Open(string(changed), purpose) },
		"cut":             func() (string, error) { return mine.Open(sealed[:8], purpose) },
		"empty":           func() (string, error) { return mine.Open("", purpose) },
		"no base64":       func() (string, error) { return mine.Open("*", purpose) },
		"too long":        func() (string, error) { return mine.Open(strings.Repeat("A", 4096), purpose) },
	} {
		if got, err := try(); err == nil {
			t.Errorf("%s: opened, %q", name, got)
		}
	}
}

func TestPublicKeysThatAreNone(t *testing.T) {
	t.Parallel()
	if err := seal.CheckPublic("publicKey", newKey(t).Public()); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "AAAA", "*", base64.StdEncoding.EncodeToString(make([]byte, 33)), strings.Repeat("A", 4096)} {
		if err := seal.CheckPublic("publicKey", bad); err == nil || !strings.Contains(err.Error(), "publicKey") {
			t.Errorf("%.20q: got %v", bad, err)
		}
		if _, err := seal.Seal(bad, purpose, secret); err == nil {
			t.Errorf("%.20q: something was sealed to it", bad)
		}
	}
	// The point of order 1: whatever is sealed to it can be opened by everybody.
	low := base64.StdEncoding.EncodeToString(make([]byte, 32))
	if _, err := seal.Seal(low, purpose, secret); err == nil {
		t.Error("something was sealed to a key that everybody knows")
	}
}
