package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wholefile"
)

// Times of a certificate that is in a vault.
const (
	certificateEvery = time.Hour // a renewed one is in the vault weeks before the other one ends
	certificateFirst = 5 * time.Second
	certificateLast  = 5 * time.Minute // between two tries
)

// certificateFile is where the door reads its certificate; "" = it makes one.
func (s *sessions) certificateFile() string {
	if _, isInVault := job.ParseSecretRef(s.cfg.DoorCertificate); isInVault {
		return filepath.Join(s.cfg.InstanceDir, "door-certificate.pem")
	}
	return s.cfg.DoorCertificate
}

// wantCertificate has the certificate read, if it is in a vault: a session is here to which browsers come.
func (s *sessions) wantCertificate() {
	select {
	case s.certificateWanted <- struct{}{}:
	default:
	}
}

// keepCertificate keeps the file of the door's certificate as the vault has it, from the first session on
// that needs it. One that has been read stays while the vault does not answer.
func (s *sessions) keepCertificate(ctx context.Context) {
	if _, isInVault := job.ParseSecretRef(s.cfg.DoorCertificate); !isInVault {
		return
	}
	select {
	case <-s.certificateWanted:
	case <-ctx.Done():
		return
	}
	for failures := 0; ; {
		next := certificateEvery
		if err := s.readCertificate(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			next = backoff.After(failures, certificateFirst, certificateLast)
			s.log.Warn("reading the door's certificate has failed; trying again", "certificate", s.cfg.DoorCertificate, "error", err.Error())
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
	}
}

var errNoPEM = errors.New("the secret is no key with its certificates in PEM; have the vault keep the certificate " +
	"with the content type application/x-pem-file")

func (s *sessions) readCertificate(ctx context.Context) error {
	text, err := s.secrets.ReadOwn(ctx)
	if err != nil {
		return err
	}
	if _, err := tls.X509KeyPair([]byte(text), []byte(text)); err != nil {
		return errNoPEM // what is in the text is in no log
	}
	return wholefile.Replace(s.certificateFile(), []byte(text), 0o600)
}
