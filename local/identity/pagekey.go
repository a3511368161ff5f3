package identity

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// pageKeyFor is how long a key of an address of the page serves: a day on which somebody may
// not have opened it yet.
const pageKeyFor = 24 * time.Hour

// NewPageKey makes a key with which the page signs the owner of the instance in, once. A key is
// forgotten when the issuer ends.
func (s *Server) NewPageKey() string {
	key, now := rand.Text(), s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, until := range s.pageKeys {
		if now.After(until) || len(s.pageKeys) >= maxOpen {
			delete(s.pageKeys, old)
		}
	}
	s.pageKeys[key] = now.Add(pageKeyFor)
	return key
}

// AllowPages lets the page at these origins ask for tokens, as a registration of an
// application of the kind "single-page" does in Microsoft Entra ID.
func (s *Server) AllowPages(origins ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages = origins
}

// pagePaths are what the page reads of the issuer.
var pagePaths = []string{"/token", "/.well-known/openid-configuration"}

// letPages answers the page where it has to read the answers: discovery and tokens. Everything
// else is for the door to say, and for pages of other origins so are these two.
func (s *Server) letPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		s.mu.Lock()
		isPage := origin != "" && slices.Contains(s.pages, origin) && slices.Contains(pagePaths, r.URL.Path)
		s.mu.Unlock()
		if isPage {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Vary", "Origin")
			r = r.Clone(r.Context()) // the door looks at the rest
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
		}
		next.ServeHTTP(w, r)
	})
}

// askPageKey makes a key for the owner, who shows an access token.
func (s *Server) askPageKey(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	var claims struct {
		jwt.RegisteredClaims
		Object string `json:"oid"`
		Scope  string `json:"scp"`
	}
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return &s.state.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(s.url), jwt.WithAudience(s.state.Client),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.cfg.Now))
	if !ok || err != nil || claims.Object != s.state.Owner || claims.Scope != Scope {
		refuse(w, http.StatusUnauthorized, "invalid_token", "only the owner of the instance gets a key")
		return
	}
	answer(w, http.StatusOK, map[string]any{"key": s.NewPageKey(), "expires_in": int(pageKeyFor.Seconds())})
}

// givePage swaps a key for a token of the owner.
func (s *Server) givePage(w http.ResponseWriter, key string) {
	s.mu.Lock()
	until, ok := s.pageKeys[key]
	delete(s.pageKeys, key) // once
	s.mu.Unlock()
	if !ok || s.cfg.Now().After(until) {
		refuse(w, http.StatusBadRequest, "invalid_grant", "the key is not good, or not any more")
		return
	}
	token, _, err := s.OwnerToken()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "server_error", "the token cannot be signed")
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "access_token": token, "expires_in": int(ownerFor.Seconds()), "scope": Scope,
	})
}
