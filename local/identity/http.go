package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Scope is the one scope of the API.
const Scope = "access"

const (
	// scopeOpenID asks for an identity token beside the access token.
	scopeOpenID = "openid"
	// maxForm bounds a form, in bytes.
	maxForm = 64 << 10
	// maxOpen bounds the codes that wait to be used, each kind.
	maxOpen = 1000
)

// device is a device code that waits for somebody to sign in.
type device struct {
	userCode string
	until    time.Time
	askedAt  time.Time
	isOpenID bool    // the program also wants to know who signs in
	person   *person // who has signed in
}

// grant is an authorization code.
type grant struct {
	person    person
	redirect  string
	challenge string
	isOpenID  bool   // the program also wants to know who signs in
	nonce     string // of the program, for the identity token
	until     time.Time
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.discover)
	mux.HandleFunc("GET /keys", s.showKeys)
	mux.HandleFunc("POST /devicecode", s.beginDevice)
	mux.HandleFunc("GET /device", s.askDevice)
	mux.HandleFunc("POST /device", s.approveDevice)
	mux.HandleFunc("GET /authorize", s.askCode)
	mux.HandleFunc("POST /authorize", s.approveCode)
	mux.HandleFunc("POST /token", s.giveToken)
	mux.HandleFunc("POST /pagekey", s.askPageKey)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("Referrer-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) discover(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"issuer": s.url, "jwks_uri": s.url + "/keys", "token_endpoint": s.url + "/token",
		"authorization_endpoint": s.url + "/authorize", "device_authorization_endpoint": s.url + "/devicecode",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"none"}, "scopes_supported": []string{scopeOpenID, "profile", "offline_access", Scope},
		"grant_types_supported": []string{"authorization_code", "refresh_token", deviceGrant},
	})
}

func (s *Server) showKeys(w http.ResponseWriter, _ *http.Request) {
	b, err := s.state.key.PublicKey.Bytes()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "server_error", "the key cannot be shown")
		return
	}
	encode := base64.RawURLEncoding.EncodeToString
	const size = 32
	answer(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kid": s.state.kid(), "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "x": encode(b[1 : 1+size]), "y": encode(b[1+size:]),
	}}})
}

// letters of a code that somebody reads and types.
const letters = "BCDFGHJKLMNPQRSTVWXZ"

func newUserCode() string {
	var b strings.Builder
	random := make([]byte, 8)
	rand.Read(random)
	for i, r := range random {
		if i == 4 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[int(r)%len(letters)])
	}
	return b.String()
}

// beginDevice is the device authorization of RFC 8628.
func (s *Server) beginDevice(w http.ResponseWriter, r *http.Request) {
	if !s.isClient(r.PostFormValue("client_id")) {
		refuse(w, http.StatusUnauthorized, "invalid_client", "no such application")
		return
	}
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, d := range s.devices {
		if now.After(d.until) {
			delete(s.devices, code)
		}
	}
	if len(s.devices) >= maxOpen {
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "too many sign-ins are open; try again in some minutes")
		return
	}
	code, d := rand.Text(), &device{userCode: newUserCode(), until: now.Add(deviceFor), isOpenID: asksForIdentity(r.PostFormValue("scope"))}
	s.devices[code] = d
	answer(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": d.userCode, "verification_uri": s.url + "/device",
		"verification_uri_complete": s.url + "/device?user_code=" + d.userCode,
		"expires_in":                int(deviceFor.Seconds()), "interval": max(int(s.cfg.Interval.Seconds()), 1),
	})
}

func (s *Server) askDevice(w http.ResponseWriter, r *http.Request) {
	s.form(w, http.StatusOK, page{Action: "/device", Code: r.URL.Query().Get("user_code"), AsksCode: true})
}

// approveDevice has somebody sign in for a device code.
func (s *Server) approveDevice(w http.ResponseWriter, r *http.Request) {
	code := strings.ToUpper(strings.TrimSpace(r.PostFormValue("user_code")))
	again := page{Action: "/device", Code: code, AsksCode: true}
	p, err := s.check(r.Context(), r.PostFormValue("login"), r.PostFormValue("secret"))
	if err != nil {
		again.Problem = err.Error()
		s.form(w, http.StatusUnauthorized, again)
		return
	}
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if subtle.ConstantTimeCompare([]byte(d.userCode), []byte(code)) == 1 && now.Before(d.until) && d.person == nil {
			d.person = &p
			s.form(w, http.StatusOK, page{Done: "You have signed in as " + p.Login + ". Go back to the terminal."})
			return
		}
	}
	again.Problem = "there is no such code, or it has expired; begin again with `dsvm login`"
	s.form(w, http.StatusBadRequest, again)
}

// asked is a request for an authorization code that may be answered.
func (s *Server) asked(q url.Values) (to *url.URL, why string) {
	to, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case !s.isClient(q.Get("client_id")):
		return nil, "no such application"
	case err != nil || !isHere(to):
		return nil, "the way back leads to another machine"
	case q.Get("response_type") != "code", q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43:
		return nil, "only the code flow with PKCE (S256) is known here"
	}
	return to, ""
}

// isHere reports whether an address is one of a program on this machine.
func isHere(u *url.URL) bool {
	isLoopback := u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost"
	return u.Scheme == "http" && isLoopback && u.Port() != "" && u.User == nil && u.Fragment == ""
}

func (s *Server) askCode(w http.ResponseWriter, r *http.Request) {
	if _, why := s.asked(r.URL.Query()); why != "" {
		s.form(w, http.StatusBadRequest, page{Done: why})
		return
	}
	s.form(w, http.StatusOK, page{Action: "/authorize?" + r.URL.Query().Encode()})
}

// approveCode has somebody sign in, and leads back with a code.
func (s *Server) approveCode(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to, why := s.asked(q)
	if why != "" {
		s.form(w, http.StatusBadRequest, page{Done: why})
		return
	}
	p, err := s.check(r.Context(), r.PostFormValue("login"), r.PostFormValue("secret"))
	if err != nil {
		s.form(w, http.StatusUnauthorized, page{Action: "/authorize?" + q.Encode(), Problem: err.Error()})
		return
	}
	now, code := s.cfg.Now(), rand.Text()
	s.mu.Lock()
	for old, g := range s.codes {
		if now.After(g.until) {
			delete(s.codes, old)
		}
	}
	s.codes[code] = &grant{
		person:    p,
		redirect:  q.Get("redirect_uri"),
		challenge: q.Get("code_challenge"),
		isOpenID:  asksForIdentity(q.Get("scope")),
		nonce:     q.Get("nonce"),
		until:     now.Add(codeFor),
	}
	s.mu.Unlock()
	back := to.Query()
	back.Set("code", code)
	back.Set("state", q.Get("state"))
	to.RawQuery = back.Encode()
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}

const (
	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
	// pageKeyGrant swaps the key of an address of the page for a token of the owner; handlers has the same.
	pageKeyGrant = "urn:dsvm:grant:page-key"
)

// giveToken is the token endpoint.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	if !s.isClient(r.PostFormValue("client_id")) {
		refuse(w, http.StatusUnauthorized, "invalid_client", "no such application")
		return
	}
	switch r.PostFormValue("grant_type") {
	case deviceGrant:
		s.giveDevice(w, r.PostFormValue("device_code"))
	case "authorization_code":
		s.giveCode(w, r)
	case pageKeyGrant:
		s.givePage(w, r.PostFormValue("code"))
	case "refresh_token":
		p, err := s.refreshed(r.PostFormValue("refresh_token"))
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid_grant", "sign in again")
			return
		}
		s.give(w, p, asksForIdentity(r.PostFormValue("scope")), "")
	default:
		refuse(w, http.StatusBadRequest, "unsupported_grant_type", "only device codes, authorization codes and refresh tokens are known here")
	}
}

func (s *Server) giveDevice(w http.ResponseWriter, code string) {
	now := s.cfg.Now()
	s.mu.Lock()
	d := s.devices[code]
	var p *person
	isOpenID, problem, text := false, "", ""
	switch {
	case d == nil:
		problem, text = "invalid_grant", "there is no such code"
	case now.After(d.until):
		delete(s.devices, code)
		problem, text = "expired_token", "the code has expired"
	case d.person != nil:
		delete(s.devices, code) // once
		p, isOpenID = d.person, d.isOpenID
	case now.Sub(d.askedAt) < s.cfg.Interval-s.cfg.Interval/10:
		problem, text = "slow_down", "ask less often"
	default:
		problem, text = "authorization_pending", "nobody has signed in yet"
	}
	if d != nil {
		d.askedAt = now
	}
	s.mu.Unlock()
	if p == nil {
		refuse(w, http.StatusBadRequest, problem, text)
		return
	}
	s.give(w, *p, isOpenID, "")
}

func (s *Server) giveCode(w http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	s.mu.Lock()
	g := s.codes[code]
	delete(s.codes, code) // once, also when the rest is wrong
	s.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if g == nil || s.cfg.Now().After(g.until) || g.redirect != r.PostFormValue("redirect_uri") ||
		subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(g.challenge)) != 1 {
		refuse(w, http.StatusBadRequest, "invalid_grant", "the code is not good, or not any more")
		return
	}
	s.give(w, g.person, g.isOpenID, g.nonce)
}

// asksForIdentity reports whether a list of scopes asks for an identity token.
func asksForIdentity(scopes string) bool { return slices.Contains(strings.Fields(scopes), scopeOpenID) }

// give answers with tokens; with an identity token if the program has asked for one.
func (s *Server) give(w http.ResponseWriter, p person, isOpenID bool, nonce string) {
	access, err := s.access(p, accessFor)
	var again, identity string
	if err == nil {
		again, err = s.refresh(p)
	}
	if err == nil && isOpenID {
		identity, err = s.identity(p, nonce)
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, "server_error", "the token cannot be signed")
		return
	}
	tokens := map[string]any{
		"token_type": "Bearer", "access_token": access, "refresh_token": again, "expires_in": int(accessFor.Seconds()), "scope": Scope,
	}
	if isOpenID {
		tokens["id_token"], tokens["scope"] = identity, scopeOpenID+" offline_access "+Scope
	}
	answer(w, http.StatusOK, tokens)
}

func (s *Server) isClient(id string) bool { return id == s.state.Client }

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone if this fails
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	answer(w, status, map[string]string{"error": code, "error_description": text})
}

// page is what a browser is shown.
type page struct {
	Action, Code, Problem, Done string
	AsksCode                    bool
}

var shown = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>
<style>body{font:16px sans-serif;max-width:24em;margin:4em auto}input{display:block;width:100%;margin:.3em 0 1em;font:inherit}</style>
{{if .Done}}<p>{{.Done}}</p>{{else}}<h1>Sign in</h1>{{with .Problem}}<p role="alert">{{.}}</p>{{end}}
<form method="post" action="{{.Action}}">
{{if .AsksCode}}<label>Code, as your terminal shows it<input name="user_code" value="{{.Code}}"></label>{{end}}
<label>Login<input name="login" autocomplete="username"></label>
<label>Secret<input name="secret" type="password" autocomplete="current-password"></label>
<button>Sign in</button></form>{{end}}`))

func (s *Server) form(w http.ResponseWriter, status int, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = shown.Execute(w, p) // the caller is gone if this fails
}
