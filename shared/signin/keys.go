package signin

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/fault"
)

const (
	// maxDocument bounds what is read of a discovery document or of a set of keys. Entra's
	// set has some 20 KiB.
	maxDocument = 1 << 20
	maxKeys     = 100
	// readTime bounds both reads together.
	readTime = 5 * time.Second
	// staleAfter is when keys are read again: an issuer may take one back.
	staleAfter = time.Hour
	// uselessAfter is for how long keys serve while the issuer does not answer.
	uselessAfter = 24 * time.Hour
	// againAfter is the pace at which a token with an unknown key makes the keys be read
	// again: anybody may send such tokens.
	againAfter = 30 * time.Second
	// minBits and maxBits bound an RSA key. A larger one takes long to check with.
	minBits, maxBits = 2048, 8192
)

// key is a key of the issuer.
type key struct {
	algorithm string
	public    crypto.PublicKey
}

// keySet is the issuer's keys, read when they are needed.
type keySet struct {
	issuer *url.URL
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex // held while they are read, so that one reads for all
	keys    map[string]*key
	readAt  time.Time // of the keys; zero = never
	triedAt time.Time
	failed  error // of the last try
}

func newKeySet(issuer *url.URL, cfg Config) *keySet {
	client := cfg.Client
	if client == nil {
		client = &http.Client{}
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keySet{issuer: issuer, client: &own, log: cfg.Log, now: cfg.Now}
}

// find returns the key of an id; nil = the issuer has none of it. An error means that the
// keys cannot be read now.
func (s *keySet) find(ctx context.Context, kid string) (*key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	isStale := s.readAt.IsZero() || now.Sub(s.readAt) >= staleAfter
	if (isStale || s.keys[kid] == nil) && (s.triedAt.IsZero() || now.Sub(s.triedAt) >= againAfter) {
		s.triedAt = now
		keys, err := s.read(context.WithoutCancel(ctx)) // it is read for all who wait
		if s.failed = err; err == nil {
			s.keys, s.readAt = keys, now
		} else if s.log != nil {
			s.log.WarnContext(ctx, "keys of the issuer cannot be read", "issuer", s.issuer.String(), "error", err)
		}
	}
	if s.readAt.IsZero() || s.failed != nil && now.Sub(s.readAt) >= uselessAfter {
		return nil, &fault.Error{Code: fault.Throttled, RetryAfter: againAfter, Err: s.failed,
			Message: "the sign-in cannot be checked, since its issuer does not give its keys; try again in a while"}
	}
	return s.keys[kid], nil
}

// read reads the discovery document and the keys that it leads to.
func (s *keySet) read(ctx context.Context) (map[string]*key, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := s.get(ctx, strings.TrimRight(s.issuer.String(), "/")+"/.well-known/openid-configuration", &document); err != nil {
		return nil, err
	}
	if document.Issuer != s.issuer.String() {
		return nil, fmt.Errorf("the discovery document is of the issuer %.200q", document.Issuer)
	}
	at, err := url.Parse(document.Keys)
	if err != nil || at.Host == "" || !isSafe(at) || at.Scheme == "http" && at.Host != s.issuer.Host {
		return nil, fmt.Errorf("the discovery document has its keys at %.200q, which is not safe", document.Keys)
	}
	var set struct {
		Keys []webKey `json:"keys"`
	}
	if err := s.get(ctx, at.String(), &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the issuer has %d keys", len(set.Keys))
	}
	keys := map[string]*key{}
	for _, k := range set.Keys {
		if read := k.read(); read != nil {
			keys[k.ID] = read
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the issuer has no key that can be used")
	}
	return keys, nil
}

func (s *keySet) get(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	response, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return err
	}
	if len(body) > maxDocument {
		return fmt.Errorf("%s answers more than %d bytes", address, maxDocument)
	}
	return json.Unmarshal(body, into)
}

// webKey is a key as RFC 7517 writes it.
type webKey struct {
	ID    string `json:"kid"`
	Type  string `json:"kty"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	N     string `json:"n"`
	E     string `json:"e"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

// read returns the key; nil = it is none that is used here.
func (k webKey) read() *key {
	if k.ID == "" || k.Use != "" && k.Use != "sig" {
		return nil
	}
	switch k.Type {
	case "RSA":
		n, e := number(k.N), number(k.E)
		if n == nil || e == nil || n.BitLen() < minBits || n.BitLen() > maxBits ||
			!e.IsInt64() || e.Int64() < 3 || e.Int64() > math.MaxInt32 || e.Bit(0) == 0 {
			return nil
		}
		return &key{"RS256", &rsa.PublicKey{N: n, E: int(e.Int64())}}
	case "EC":
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		const size = 32
		if k.Curve != "P-256" || errX != nil || errY != nil || len(x) != size || len(y) != size {
			return nil
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil // it is no point of the curve
		}
		return &key{"ES256", public}
	}
	return nil
}

func number(text string) *big.Int {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil
	}
	return new(big.Int).SetBytes(b)
}
