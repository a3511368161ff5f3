package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// right is what a route needs of who calls. The zero value is none: a route that says
// nothing lets nobody in.
type right struct {
	role caller.Role
	team string // caller.AllTeams = in every team; "" = in one at least, and the route looks which
	kind kind
}

// kind tells apart the routes that no role is for.
type kind int

const (
	byRole   kind = iota
	byNobody      // nobody has to say who calls
	bySignIn      // any caller, also without a role
)

// Rights of routes.
var (
	public  = right{kind: byNobody}                               // what proves itself, or may be known to all
	known   = right{kind: bySignIn}                               // about the caller alone
	read    = right{role: caller.Reader}                          // see what is there
	submit  = right{role: caller.User}                            // start something of one's own
	change  = right{role: caller.User}                            // change a job: the route looks whose it is
	operate = right{role: caller.Operator, team: caller.AllTeams} // change what is everybody's
)

// Access says who may do what.
type Access struct {
	// Tokens checks the tokens of people; nil = nobody can sign in by a token.
	Tokens Tokens
	SignIn wire.SignIn // where people get them
	// Platform says that the platform has people sign in and tells who they are in a
	// header, in which it replaces what a client has sent.
	Platform bool
	Tenant   string // of the people that the platform tells; "" = it is not looked at
	Roles    caller.Rules
	// Key is the role of programs, who have the function key; "" = operator.
	Key caller.Role
}

// Tokens checks the tokens of people.
type Tokens interface {
	// Check returns whose token it is. *caller.Refused says that it is not taken; any
	// other error that it cannot be checked now.
	Check(ctx context.Context, token string) (caller.Person, error)
}

// Users keeps the accounts of people.
type Users interface {
	// Find returns the caller with name and uid of the account, which it makes at first
	// use. They are the same for ever, and those of nobody else.
	Find(ctx context.Context, c caller.Caller) (caller.Caller, error)
}

// webPrefix begins the paths of people who have signed in. The host asks for no key there.
const webPrefix = "/web"

// isWeb reports whether a path is below /web, in any case, as the host's routes are.
func isWeb(path string) bool {
	const folder = webPrefix + "/"
	return len(path) >= len(folder) && strings.EqualFold(path[:len(folder)], folder)
}

type webKey struct{}

// withoutWeb takes /web off a request, and marks it.
func withoutWeb(r *http.Request) *http.Request {
	r = r.Clone(context.WithValue(r.Context(), webKey{}, true))
	r.URL.Path, r.URL.RawPath = r.URL.Path[len(webPrefix):], ""
	return r
}

// cameByWeb reports whether a request came below /web, so that no key has been asked for.
func cameByWeb(r *http.Request) bool {
	web, _ := r.Context().Value(webKey{}).(bool)
	return web
}

// locate names a path of the API in an answer, as the caller reaches it.
func locate(r *http.Request, path string) string {
	if cameByWeb(r) {
		return webPrefix + path
	}
	return path
}

// entrance refuses requests that a page of another site makes a browser send: the sign-in
// of the platform is in a cookie. The host in front has looked at Host.
var entrance = door.Door{AnyHost: true, Forwarded: true}

// admit finds who calls, asks whether the route may be used, and returns the request with
// the caller in its context.
func (s *server) admit(r *http.Request, needs right) (*http.Request, error) {
	if cameByWeb(r) {
		if why := entrance.Check(r); why != nil {
			return r, fault.New(fault.Forbidden, "", "%s", why.Reason)
		}
	}
	if needs.kind == byNobody {
		return r, nil
	}
	c, err := s.findCaller(r)
	if err != nil {
		return r, err
	}
	r = r.WithContext(caller.With(r.Context(), c))
	if needs.kind == bySignIn {
		return r, nil
	}
	return r, c.Need(needs.role, needs.team)
}

// findCaller finds who calls: a person who has signed in, or, where the host has checked the
// key, a program.
func (s *server) findCaller(r *http.Request) (caller.Caller, error) {
	from := addressOf(r)
	person, err := s.findPerson(r)
	switch {
	case err != nil:
		return caller.Caller{}, err
	case person == nil:
		role := cmp.Or(s.Access.Key, caller.Operator)
		return caller.Caller{Teams: map[string]caller.Role{caller.AllTeams: role}, From: from}, nil
	}
	c := s.Access.Roles.Caller(*person)
	c.From = from
	// Who may only read needs no account.
	if s.Users != nil && c.RoleIn("").Rank() >= caller.User.Rank() {
		return s.Users.Find(r.Context(), c)
	}
	return c, nil
}

// findPerson finds the person who calls; nil = it is a program with the key.
func (s *server) findPerson(r *http.Request) (*caller.Person, error) {
	token, err := bearerOf(r)
	if err != nil {
		return nil, err
	}
	switch {
	case token != "" && s.Access.Tokens == nil:
		return nil, wire.NotSignedIn("nobody can sign in by a token here: this deployment has no issuer (DSVM_ISSUER)")
	case token != "":
		person, err := s.Access.Tokens.Check(r.Context(), token)
		var refused *caller.Refused
		if errors.As(err, &refused) {
			s.log.WarnContext(r.Context(), "token refused", "reason", refused.Reason, "from", addressOf(r), "path", r.URL.Path)
			return nil, wire.NotSignedIn(refused.Reason)
		}
		return &person, err
	case !cameByWeb(r):
		return nil, nil
	case s.Access.Platform && r.Header.Get(principalHeader) != "":
		person, err := readPrincipal(r.Header, s.Access.Tenant)
		if err != nil {
			s.log.WarnContext(r.Context(), "sign-in of the platform refused", "error", err)
			return nil, wire.NotSignedIn("the sign-in of the platform cannot be used: " + err.Error())
		}
		return &person, nil
	}
	return nil, wire.NotSignedIn("this needs a person who has signed in")
}

// bearerOf is the token of a request; "" = it has none.
func bearerOf(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) > 1 {
		return "", wire.NotSignedIn("the request has several headers Authorization; send one")
	}
	if len(values) == 0 {
		return pageToken(r), nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		if cameByWeb(r) {
			return "", wire.NotSignedIn("the header Authorization takes `Bearer` and a token")
		}
		return "", nil // not for this app
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", wire.NotSignedIn("the header Authorization has no token")
	}
	return token, nil
}

// pageToken is the token of a page that has signed in by a key: its claims are in a cookie, which
// no script reads, and its signature is in a header, which no page of another origin can send. "" = it has none.
func pageToken(r *http.Request) string {
	claims, err := r.Cookie(wire.PageCookie)
	signature := r.Header.Get(wire.PageHeader)
	if err != nil || signature == "" || !cameByWeb(r) {
		return ""
	}
	return claims.Value + "." + signature
}

// addressOf is where a request comes from, as the last proxy says; "" = it is not known. It
// is for the audit trail, and no right stands on it.
func addressOf(r *http.Request) string {
	list := r.Header.Get("X-Forwarded-For")
	last := strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
	if last == "" {
		last = r.RemoteAddr
	}
	if at, err := netip.ParseAddrPort(last); err == nil {
		return at.Addr().Unmap().String()
	}
	if at, err := netip.ParseAddr(last); err == nil {
		return at.Unmap().String()
	}
	return ""
}

// callerOf is who calls; a caller without rights where nobody was looked for.
func callerOf(r *http.Request) caller.Caller {
	c, _ := caller.Of(r.Context())
	return c
}
