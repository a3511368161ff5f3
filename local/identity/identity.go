// Package identity is a small OpenID Connect issuer for one machine, in the place of
// Microsoft Entra ID: discovery, keys, the device code flow, the authorization code flow with
// PKCE, and refresh tokens. People are in a file with hashes of their secrets; tokens have
// the claims that Entra gives, so that the app checks them by the same code.
//
// It listens on loopback, and loopback is not trust: nobody gets a token without a secret
// of the file but the owner of the instance, for whom the instance itself asks. It never
// writes a token or a secret to its log.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"dsvmpools/shared/door"
)

// Config configures an issuer.
type Config struct {
	Addr  string // to listen at
	Path  string // file with the keys, which nobody else may read
	Users string // file with people; "" = none
	Owner string // login of whom the instance belongs to
	Log   *slog.Logger
	// Interval is the least time between two questions for a device code; 0 = 5 seconds.
	Interval time.Duration
	Now      func() time.Time // nil = the clock
}

// Times of tokens and codes.
const (
	accessFor  = time.Hour
	refreshFor = 30 * 24 * time.Hour
	// ownerFor is how long a token of the owner serves; the instance makes another one much
	// earlier.
	ownerFor  = 12 * time.Hour
	deviceFor = 10 * time.Minute
	codeFor   = time.Minute
	interval  = 5 * time.Second
	// readTime bounds a request.
	readTime = 10 * time.Second
)

// OwnerGroup is the group of the owner.
const OwnerGroup = "owner"

// refreshAudience keeps a refresh token from being taken for an access token.
const refreshAudience = "urn:dsvm:refresh"

// Server is a running issuer.
type Server struct {
	cfg    Config
	state  state
	users  *directory
	web    *http.Server
	url    string
	guards limiter

	mu      sync.Mutex
	devices map[string]*device // by device code
	codes   map[string]*grant  // by authorization code
	pages   []string           // origins of the page, which may ask for tokens

	pageKeys map[string]time.Time // until when a key of an address of the page serves
}

// Start starts an issuer.
func Start(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Interval == 0 {
		cfg.Interval = interval
	}
	users, err := readDirectory(cfg.Users)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, users: users, devices: map[string]*device{}, codes: map[string]*grant{}, pageKeys: map[string]time.Time{}}
	if s.state, err = loadState(cfg.Path); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("the issuer: %w", err)
	}
	s.url = "http://" + l.Addr().String()
	s.web = &http.Server{
		Handler:     s.letPages(door.Door{Pages: true}.Guard(s.handler(), false)),
		ReadTimeout: readTime,
	}
	go s.web.Serve(l)
	return s, nil
}

// Close stops the issuer.
func (s *Server) Close() error { return s.web.Close() }

// URL is the issuer's address, which is also its name.
func (s *Server) URL() string { return s.url }

// Addr is the address at which it listens.
func (s *Server) Addr() string { return s.url[len("http://"):] }

// Client is the id of the application that tokens are for.
func (s *Server) Client() string { return s.state.Client }

// Owner is the object id of the owner of the instance.
func (s *Server) Owner() string { return s.state.Owner }

// Tenant is the id of the tenant.
func (s *Server) Tenant() string { return s.state.Tenant }

// OwnerToken makes an access token of the owner of the instance, and says until when it
// serves.
func (s *Server) OwnerToken() (token string, until time.Time, err error) {
	token, err = s.access(s.owner(), ownerFor)
	return token, s.cfg.Now().Add(ownerFor), err
}

// owner is the owner as a person.
func (s *Server) owner() person {
	return person{ID: s.state.Owner, Login: s.cfg.Owner, Groups: []string{OwnerGroup}}
}

// find finds a person by login.
func (s *Server) find(login string) (person, bool) {
	entry, ok := s.users.find(login)
	if !ok {
		return person{}, false
	}
	return person{ID: s.idOf(login), Login: entry.login, Groups: entry.groups, print: entry.print()}, true
}

// idOf is the object id of a person, which follows from the login.
func (s *Server) idOf(login string) string {
	return uuid.NewSHA1(uuid.MustParse(s.state.Tenant), []byte(login)).String()
}

// person is somebody whom tokens are for.
type person struct {
	ID, Login string
	Groups    []string
	print     string // of the secret: another secret ends refresh tokens
}

// access signs an access token.
func (s *Server) access(p person, serves time.Duration) (string, error) {
	now := s.cfg.Now()
	return s.sign(jwt.MapClaims{
		"iss": s.url, "aud": s.state.Client, "tid": s.state.Tenant, "ver": "2.0", "azp": s.state.Client, "scp": Scope,
		"sub": p.ID, "oid": p.ID, "preferred_username": p.Login, "name": p.Login, "groups": p.Groups,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(serves).Unix(), "uti": uuid.NewString(),
	})
}

// identity signs a token that tells a program who has signed in. It opens nothing: it has no
// scope, and the app refuses it.
func (s *Server) identity(p person, nonce string) (string, error) {
	now := s.cfg.Now()
	claims := jwt.MapClaims{
		"iss": s.url, "aud": s.state.Client, "tid": s.state.Tenant, "ver": "2.0",
		"sub": p.ID, "oid": p.ID, "preferred_username": p.Login, "name": p.Login,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(accessFor).Unix(), "uti": uuid.NewString(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return s.sign(claims)
}

// refresh signs a refresh token.
func (s *Server) refresh(p person) (string, error) {
	return s.sign(jwt.MapClaims{
		"iss": s.url, "aud": refreshAudience, "sub": p.Login, "fp": p.print, "exp": s.cfg.Now().Add(refreshFor).Unix(), "jti": uuid.NewString(),
	})
}

// refreshed returns whom a refresh token is of.
func (s *Server) refreshed(token string) (person, error) {
	if len(token) > maxForm {
		return person{}, errors.New("it is too long")
	}
	var of struct {
		jwt.RegisteredClaims
		Print string `json:"fp"`
	}
	_, err := jwt.ParseWithClaims(token, &of, func(*jwt.Token) (any, error) { return &s.state.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(s.url), jwt.WithAudience(refreshAudience),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.cfg.Now))
	if err != nil {
		return person{}, err
	}
	p, ok := s.find(of.Subject)
	if !ok || p.print != of.Print {
		return person{}, errors.New("the person is not known any more, or has another secret")
	}
	return p, nil
}

func (s *Server) sign(claims jwt.MapClaims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	t.Header["kid"] = s.state.kid()
	return t.SignedString(s.state.key)
}

// check reports whether a secret is that of a login. It waits its turn, so that secrets
// cannot be tried side by side, and refuses a login that was tried too often.
func (s *Server) check(ctx context.Context, login, secret string) (person, error) {
	if err := s.guards.enter(login, s.cfg.Now()); err != nil {
		return person{}, err
	}
	defer s.guards.leave()
	if !s.users.isSecret(login, secret) {
		s.guards.failed(login, s.cfg.Now())
		s.cfg.Log.WarnContext(ctx, "sign-in refused", "login", login)
		return person{}, errors.New("login or secret is wrong")
	}
	p, _ := s.find(login)
	s.cfg.Log.InfoContext(ctx, "signed in", "login", login)
	return p, nil
}
