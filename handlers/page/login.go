package page

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// loginPath swaps a key for a cookie.
const loginPath = "/web/login"

// maxLogin bounds the body of a login, in bytes.
const maxLogin = 4 << 10

// Keys swaps the keys of addresses that `dsvm up` and `dsvm page` print.
type Keys interface {
	// Swap returns the token of the person that a key is for, and until when it serves. A key
	// serves once. ErrKey says that it does not serve, or not any more; any other error that
	// it cannot be told now.
	Swap(ctx context.Context, key string) (token string, until time.Time, err error)
}

// ErrKey is of a key that does not serve.
var ErrKey = errors.New("the address has been used, or is too old; `dsvm page` prints a new one")

// entrance refuses what pages of other sites make a browser send. The host in front has looked at Host.
var entrance = door.Door{AnyHost: true, Forwarded: true}

// login takes a key, and answers with the two halves of a token: its claims in a cookie that no
// script can read, its signature for the page to keep. A browser sends a cookie to every
// port of a machine, and gives what a page keeps to that page's port alone: no other server gets both.
func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	key, problem := p.readLogin(w, r)
	if problem != nil {
		writeProblem(w, *problem)
		return
	}
	token, until, err := p.cfg.Keys.Swap(r.Context(), key)
	claims, signature, isToken := cutToken(token)
	switch {
	case errors.Is(err, ErrKey):
		writeProblem(w, wire.NotSignedIn(err.Error()))
		return
	case err != nil || !isToken:
		writeProblem(w, wire.Busy("the issuer of sign-ins does not answer; try again"))
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: wire.PageCookie, Value: claims, Path: "/web", Expires: until, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"proof": signature, "until": until.UTC()}) // the caller is gone if this fails
}

// cutToken cuts a token before its signature.
func cutToken(token string) (claims, signature string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}

// readLogin reads the key of a login.
func (p *Page) readLogin(w http.ResponseWriter, r *http.Request) (key string, problem *wire.Problem) {
	refuse := func(code fault.Code, field, text string) *wire.Problem {
		p := wire.NewProblem(fault.New(code, field, "%s", text))
		return &p
	}
	if why := entrance.Check(r); why != nil {
		return "", refuse(fault.Forbidden, "", why.Reason)
	}
	if p.cfg.Keys == nil {
		return "", refuse(fault.NotFound, "", "this deployment takes no keys of addresses; sign in at its issuer")
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem := wire.MethodNotAllowed("this", []string{http.MethodPost})
		return "", &problem
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var body struct {
		Key string `json:"key"`
	}
	if kind != "application/json" || json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin)).Decode(&body) != nil || body.Key == "" {
		return "", refuse(fault.Invalid, "key",
			`a login takes {"key": "..."} as application/json, with the key of an address that `+"`dsvm page` prints")
	}
	return body.Key, nil
}

func writeProblem(w http.ResponseWriter, p wire.Problem) {
	w.Header().Set("Content-Type", wire.ProblemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller is gone if this fails
}
