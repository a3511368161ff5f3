package httpapi

import (
	"net/http"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// showCaller says who calls and what the caller may do.
func (s *server) showCaller(w http.ResponseWriter, r *http.Request) error {
	return writeOK(w, wire.NewMe(callerOf(r)))
}

// showSignIn says where people sign in. Who asks has not signed in yet.
func (s *server) showSignIn(w http.ResponseWriter, _ *http.Request) error {
	if s.Access.SignIn.Issuer == "" {
		return fault.New(fault.NotFound, "", "nobody can sign in here yet: this deployment has no issuer (docs/identity.md)")
	}
	return writeOK(w, s.Access.SignIn)
}
