package signin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/signin"
)

const (
	audience = "aaaaaaaa-0000-4000-8000-000000000001"
	tenant   = "aaaaaaaa-0000-4000-8000-000000000002"
	ann      = "aaaaaaaa-0000-4000-8000-00000000000a"
)

// issuer plays an issuer whose keys a test can change.
type issuer struct {
	*httptest.Server
	mu       sync.Mutex
	keys     []map[string]any
	document map[string]any
	broken   atomic.Bool
	reads    atomic.Int64 // of the keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(i.document)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.reads.Add(1)
		json.NewEncoder(w).Encode(map[string]any{"keys": i.keys})
	})
	i.Server = httptest.NewServer(mux)
	i.document = map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) add(kid string, public any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	switch k := public.(type) {
	case *rsa.PublicKey:
		i.keys = append(i.keys, map[string]any{"kid": kid, "kty": "RSA", "use": "sig", "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes())})
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		i.keys = append(i.keys, map[string]any{"kid": kid, "kty": "EC", "crv": "P-256", "x": encode(b[1:33]), "y": encode(b[33:])})
	}
}

// checker is a checker of the issuer, with a clock.
func (i *issuer) checker(t *testing.T, now func() time.Time) *signin.Checker {
	t.Helper()
	c, err := signin.New(signin.Config{Issuer: i.URL, Audiences: []string{audience, "api://" + audience}, Tenant: tenant, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rsaKey and ecKey are made once: RSA takes long.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// good are the claims of a token that is taken.
func (i *issuer) good(now time.Time) jwt.MapClaims {
	return jwt.MapClaims{
		"iss": i.URL, "aud": audience, "tid": tenant, "oid": strings.ToUpper(ann), "scp": "access", "preferred_username": "ann@contoso.com",
		"groups": []string{"g1", "g2"}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

func sign(t *testing.T, method jwt.SigningMethod, kid string, key any, c jwt.MapClaims, more ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	for n := 0; n+1 < len(more); n += 2 {
		token.Header[more[n]] = more[n+1]
	}
	return must(token.SignedString(key))
}

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.add("rsa", &rsaKey().PublicKey)
	i.add("ec", &ecKey().PublicKey)
	now := time.Now()
	c := i.checker(t, nil)
	for name, token := range map[string]string{
		"RS256": sign(t, jwt.SigningMethodRS256, "rsa", rsaKey(), i.good(now)),
		"ES256": sign(t, jwt.SigningMethodES256, "ec", ecKey(), i.good(now)),
	} {
		got, err := c.Check(t.Context(), token)
		if err != nil || got.ID != ann || got.Login != "ann@contoso.com" || !slices.Equal(got.Groups, []string{"g1", "g2"}) || got.Overage {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	many := i.good(now)
	delete(many, "groups")
	many["_claim_names"] = map[string]string{"groups": "src1"}
	if got, err := c.Check(t.Context(), sign(t, jwt.SigningMethodES256, "ec", ecKey(), many)); err != nil || !got.Overage {
		t.Errorf("too many groups: got %+v, %v", got, err)
	}
	if n := i.reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times, want once", n)
	}
}

// Each of these is an attack, or a mistake that would be one.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.add("rsa", &rsaKey().PublicKey)
	i.add("ec", &ecKey().PublicKey)
	stranger := must(rsa.GenerateKey(rand.Reader, 2048))
	elsewhere := newIssuer(t)
	elsewhere.add("far", &stranger.PublicKey)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&rsaKey().PublicKey))})
	now := time.Now()
	with := func(changes jwt.MapClaims) jwt.MapClaims {
		c := i.good(now)
		maps.Copy(c, changes)
		return c
	}
	without := func(name string) jwt.MapClaims {
		c := i.good(now)
		delete(c, name)
		return c
	}
	rs := func(c jwt.MapClaims) string { return sign(t, jwt.SigningMethodRS256, "rsa", rsaKey(), c) }
	good := rs(i.good(now))
	parts := strings.Split(good, ".")
	payload := must(base64.RawURLEncoding.DecodeString(parts[1]))
	other := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), strings.ToUpper(ann), "b", 1)))
	c := i.checker(t, nil)
	for name, token := range map[string]string{
		"no token":                         "ann",
		"empty parts":                      "..",
		"no signature":                     parts[0] + "." + parts[1] + ".",
		"another person, same signature":   parts[0] + "." + other + "." + parts[2],
		"more behind it":                   good + ".x",
		"alg none":                         sign(t, jwt.SigningMethodNone, "rsa", jwt.UnsafeAllowNoneSignatureType, i.good(now)),
		"HS256 with the public key":        sign(t, jwt.SigningMethodHS256, "rsa", public, i.good(now)),
		"HS256 with nothing":               sign(t, jwt.SigningMethodHS256, "rsa", []byte{}, i.good(now)),
		"RS512":                            sign(t, jwt.SigningMethodRS512, "rsa", rsaKey(), i.good(now)),
		"PS256":                            sign(t, jwt.SigningMethodPS256, "rsa", rsaKey(), i.good(now)),
		"a key of another kind":            sign(t, jwt.SigningMethodES256, "rsa", ecKey(), i.good(now)),
		"a stranger's key":                 sign(t, jwt.SigningMethodRS256, "rsa", stranger, i.good(now)),
		"a stranger's key id":              sign(t, jwt.SigningMethodRS256, "far", stranger, i.good(now)),
		"a key from elsewhere (jku)":       sign(t, jwt.SigningMethodRS256, "far", stranger, i.good(now), "jku", elsewhere.URL+"/keys"),
		"a key in the token (jwk)":         sign(t, jwt.SigningMethodRS256, "far", stranger, i.good(now), "jwk", "{}", "x5u", elsewhere.URL),
		"no key id":                        sign(t, jwt.SigningMethodRS256, "", rsaKey(), i.good(now)),
		"another audience":                 rs(with(jwt.MapClaims{"aud": "other"})),
		"other audiences":                  rs(with(jwt.MapClaims{"aud": []string{"other", audience + "x"}})),
		"no audience":                      rs(without("aud")),
		"another issuer":                   rs(with(jwt.MapClaims{"iss": elsewhere.URL})),
		"the issuer with a slash":          rs(with(jwt.MapClaims{"iss": i.URL + "/"})),
		"no issuer":                        rs(without("iss")),
		"another tenant":                   rs(with(jwt.MapClaims{"tid": "aaaaaaaa-0000-4000-8000-000000000009"})),
		"no tenant":                        rs(without("tid")),
		"expired":                          rs(with(jwt.MapClaims{"exp": now.Add(-2 * time.Minute).Unix()})),
		"never expires":                    rs(without("exp")),
		"expires as a text":                rs(with(jwt.MapClaims{"exp": "tomorrow"})),
		"not yet":                          rs(with(jwt.MapClaims{"nbf": now.Add(5 * time.Minute).Unix()})),
		"an id token, or one of a program": rs(without("scp")),
		"nobody's":                         rs(without("oid")),
		"an id that is none":               rs(with(jwt.MapClaims{"oid": "a/b'!"})),
		"an id of another type":            rs(with(jwt.MapClaims{"oid": []string{ann}})),
		"huge":                             rs(with(jwt.MapClaims{"groups": slices.Repeat([]string{ann}, 3000)})),
		"a huge text":                      strings.Repeat("a", 10<<20),
	} {
		got, err := c.Check(t.Context(), token)
		var refused *caller.Refused
		if !errors.As(err, &refused) || got.ID != "" {
			t.Errorf("%s: got %+v, %v; want it refused", name, got, err)
			continue
		}
		if len(refused.Reason) > 200 || len(token) > 20 && strings.Contains(err.Error(), token[:20]) {
			t.Errorf("%s: the reason tells of the token: %.300s", name, err)
		}
	}
	if n := elsewhere.reads.Load(); n != 0 {
		t.Errorf("a token had keys be read from where it said: %d times", n)
	}
	if _, err := c.Check(t.Context(), good); err != nil {
		t.Errorf("the good token beside them: %v", err)
	}
}

// Unknown keys make the keys be read again at a bounded pace, and a new key is found.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.add("old", &ecKey().PublicKey)
	now := time.Now()
	c := i.checker(t, func() time.Time { return now })
	token := func(kid string) string { return sign(t, jwt.SigningMethodES256, kid, ecKey(), i.good(now)) }
	check := func(kid string, ok bool) {
		t.Helper()
		if _, err := c.Check(t.Context(), token(kid)); (err == nil) != ok {
			t.Errorf("key %s: got %v, want ok: %v", kid, err, ok)
		}
	}
	check("old", true)
	i.add("new", &ecKey().PublicKey)
	for range 100 {
		check("new", false) // it is too early to read again
	}
	if n := i.reads.Load(); n != 1 {
		t.Errorf("a hundred unknown keys had the keys be read %d times", n)
	}
	now = now.Add(31 * time.Second)
	check("new", true)
	i.broken.Store(true)
	now = now.Add(2 * time.Hour)
	check("new", true) // what was read serves on
	now = now.Add(23 * time.Hour)
	if _, err := c.Check(t.Context(), token("new")); fault.CodeOf(err) != fault.Throttled {
		t.Errorf("keys of a day ago: got %v, want an error that passes", err)
	}
	i.broken.Store(false)
	i.mu.Lock()
	i.keys = i.keys[1:] // the old one is taken back
	i.mu.Unlock()
	now = now.Add(time.Hour)
	check("new", true)
	check("old", false)
}

// What an issuer must not answer.
func TestIssuersThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	small := must(rsa.GenerateKey(rand.Reader, 1024)) //nolint:gosec // it must be refused
	for name, spoil := range map[string]func(i *issuer){
		"another issuer":      func(i *issuer) { i.document["issuer"] = "https://example.com" },
		"keys without TLS":    func(i *issuer) { i.document["jwks_uri"] = "http://example.com/keys" },
		"keys at a neighbour": func(i *issuer) { i.document["jwks_uri"] = "http://127.0.0.1:1/keys" },
		"keys in a file":      func(i *issuer) { i.document["jwks_uri"] = "file:///etc/passwd" },
		"a short key":         func(i *issuer) { i.keys = nil; i.add("ec", &small.PublicKey) },
		"a key to encrypt":    func(i *issuer) { i.keys[0]["use"] = "enc" },
		"another curve":       func(i *issuer) { i.keys[0]["crv"] = "P-521" },
		"no point":            func(i *issuer) { i.keys[0]["x"] = i.keys[0]["y"] },
		"too many keys":       func(i *issuer) { i.keys = slices.Repeat(i.keys, 101) },
		"a large document":    func(i *issuer) { i.document["more"] = strings.Repeat("x", 2<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			i.add("ec", &ecKey().PublicKey)
			spoil(i)
			_, err := i.checker(t, nil).Check(t.Context(), sign(t, jwt.SigningMethodES256, "ec", ecKey(), i.good(time.Now())))
			if fault.CodeOf(err) != fault.Throttled {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		issuer, audience, field string
	}{
		{"http://login.example.com", "a", "DSVM_ISSUER"}, {"login.example.com", "a", "DSVM_ISSUER"},
		{"https://u:p@login.example.com", "a", "DSVM_ISSUER"}, {"https://login.example.com", "", "DSVM_AUDIENCE"},
	} {
		_, err := signin.New(signin.Config{Issuer: c.issuer, Audiences: []string{c.audience}})
		var f *fault.Error
		if !errors.As(err, &f) || f.Field != c.field {
			t.Errorf("%v: got %v", c, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	c := must(signin.New(signin.Config{Issuer: "http://127.0.0.1:1", Audiences: []string{"a"}}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := c.Check(t.Context(), token); err == nil {
			t.Errorf("%q is taken for %v", token, p)
		}
	})
}
