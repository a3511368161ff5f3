// Package signin checks the bearer tokens of people: access tokens of Microsoft Entra ID,
// or of the issuer that `dsvm up` starts, by the same code. It reads the issuer's keys
// where its discovery document says that they are, and believes nothing that a token says
// of its own keys.
//
// It knows no role and no request, it keeps no token, and no error of it quotes one.
package signin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
)

const (
	// maxToken bounds a token. Entra puts at most 200 groups into one, some 10 KiB.
	maxToken = 32 << 10
	// skew is how far the clocks of issuer and app may be apart.
	skew = time.Minute
	// maxGroups bounds the groups of a token; Entra puts 200 at most into one.
	maxGroups = 1000
	// maxLogin bounds what a token calls the person, in bytes.
	maxLogin = 256
)

// algorithms are those that are taken: never one without a key, and never one whose key
// the app would share with the issuer.
var algorithms = []string{"RS256", "ES256"}

// Config says whose tokens are taken.
type Config struct {
	// Issuer is the address of the issuer, as in the claim iss:
	// https://login.microsoftonline.com/TENANT/v2.0. Without TLS only on loopback.
	Issuer string
	// Audiences are the values of the claim aud that mean this app.
	Audiences []string
	Tenant    string // the claim tid; "" = it is not looked at
	Client    *http.Client
	Log       *slog.Logger
	Now       func() time.Time // nil = the clock
}

// Checker checks tokens. Its methods may be called concurrently.
type Checker struct {
	cfg    Config
	keys   *keySet
	parser *jwt.Parser
}

// New returns a checker. It sends nothing. Its error is Invalid and names the setting.
func New(cfg Config) (*Checker, error) {
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil || issuer.Host == "" || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "" || !isSafe(issuer) {
		return nil, fault.New(fault.Invalid, "DSVM_ISSUER",
			"DSVM_ISSUER is %.200q, which is not the address of an issuer; it looks like https://login.microsoftonline.com/TENANT/v2.0", cfg.Issuer)
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		return nil, fault.New(fault.Invalid, "DSVM_AUDIENCE",
			"DSVM_AUDIENCE is missing beside the issuer; set it to the client id of the app's registration in the directory")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Checker{
		cfg:  cfg,
		keys: newKeySet(issuer, cfg),
		parser: jwt.NewParser(
			jwt.WithValidMethods(algorithms),
			jwt.WithIssuer(cfg.Issuer),
			jwt.WithAudience(cfg.Audiences...),
			jwt.WithExpirationRequired(),
			jwt.WithLeeway(skew),
			jwt.WithTimeFunc(cfg.Now),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// isSafe reports whether nobody on the way can put other keys in the place of the issuer's.
func isSafe(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost")
}

// claims are what is read of a token.
type claims struct {
	jwt.RegisteredClaims

	ObjectID string   `json:"oid"`
	Tenant   string   `json:"tid"`
	Login    string   `json:"preferred_username"`
	UPN      string   `json:"upn"`
	Scope    string   `json:"scp"`
	Groups   []string `json:"groups"`
	// HasGroups and Names tell that the groups are too many for a token.
	HasGroups any            `json:"hasgroups"`
	Names     map[string]any `json:"_claim_names"`
}

// Check returns whose token it is. Refused is the error for a token that is not taken; any
// other one means that the issuer's keys cannot be read now.
func (c *Checker) Check(ctx context.Context, token string) (caller.Person, error) {
	if len(token) > maxToken {
		return caller.Person{}, refuse("the token is longer than any that the issuer gives")
	}
	var of claims
	var unread error // why the keys could not be read
	_, err := c.parser.ParseWithClaims(token, &of, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if kid == "" {
			return nil, errors.New("no kid")
		}
		key, err := c.keys.find(ctx, kid)
		if unread = err; err != nil {
			return nil, err
		}
		if key == nil || key.algorithm != t.Method.Alg() {
			return nil, errors.New("no such key")
		}
		return key.public, nil
	})
	switch {
	case unread != nil:
		return caller.Person{}, unread
	case err != nil:
		return caller.Person{}, c.explain(err)
	case c.cfg.Tenant != "" && !strings.EqualFold(of.Tenant, c.cfg.Tenant):
		return caller.Person{}, refuse("the token is of another tenant than that of this deployment")
	case of.Scope == "":
		return caller.Person{}, refuse("the token is none that a person has got for this API: it has no scope")
	case !caller.IsSubject(of.ObjectID):
		return caller.Person{}, refuse("the token does not say whose it is: it has no object id")
	case len(of.Groups) > maxGroups:
		return caller.Person{}, refuse("the token names more groups than any that the issuer gives")
	}
	return of.person(), nil
}

// person is whom a token is of that has been checked.
func (c *claims) person() caller.Person {
	login := c.Login
	if login == "" {
		login = c.UPN
	}
	if len(login) > maxLogin {
		login = ""
	}
	_, named := c.Names["groups"]
	overage := len(c.Groups) == 0 && (named || c.HasGroups != nil)
	return caller.Person{ID: strings.ToLower(c.ObjectID), Login: login, Groups: c.Groups, Overage: overage}
}

func refuse(reason string) error { return &caller.Refused{Reason: reason} }

// explain says why a token is not taken. It says no more about a signature than that it is
// wrong.
func (c *Checker) explain(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse("what was sent is no token of a person")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse("the token is not signed by the issuer of this deployment")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse("the sign-in has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse("the token is not valid yet; look at the clock of this machine")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refuse("the token is of another issuer than that of this deployment (an app whose tokens are of version 1 gives such ones)")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refuse("the token is for another application than this one")
	}
	return refuse("the token is not taken")
}
