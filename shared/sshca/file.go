package sshca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/crypto/ssh"
)

// maxFile bounds what is read of a key file.
const maxFile = 64 << 10

// pemType is the kind of block in a file that CreateFile has written.
const pemType = "PRIVATE KEY"

// OpenFile returns the authority whose private key is in a file: PEM of PKCS #8, or as
// ssh-keygen writes it without a passphrase. A file that others may read is an error.
func OpenFile(path string) (*Authority, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the key that signs SSH certificates cannot be read: %w", err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("the key that signs SSH certificates cannot be read: %w", err)
	}
	if runtime.GOOS != "windows" && at.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s signs SSH certificates, and others may read it; `chmod 600 %s` makes it yours alone", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("the key that signs SSH certificates cannot be read: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a private key without a passphrase; make one with `ssh-keygen -t ecdsa -N '' -f FILE`", path)
	}
	return &Authority{func(context.Context) (ssh.Signer, error) { return signer, nil }}, nil
}

// CreateFile makes a key file for OpenFile, unless there is one. Of two that make it at
// once, the first one's key stays.
func CreateFile(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // only its owner may read it
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(pem.Encode(f, &pem.Block{Type: pemType, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// rsaBits is the size of an RSA key; 0 = it is none.
func rsaBits(key ssh.PublicKey) int {
	if held, ok := key.(ssh.CryptoPublicKey); ok {
		if public, ok := held.CryptoPublicKey().(*rsa.PublicKey); ok {
			return public.N.BitLen()
		}
	}
	return 0
}
