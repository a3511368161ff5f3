package handlers

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/handlers/page"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/signin"
	"dsvmpools/shared/wire"
)

// SignIn is who may sign in, and what people and programs may do; docs/identity.md.
type SignIn struct {
	Issuer    string   // DSVM_ISSUER; "" = no tokens are taken
	Audiences []string // DSVM_AUDIENCE
	Tenant    string   // DSVM_TENANT
	Client    string   // DSVM_CLIENT_ID
	Scope     string   // DSVM_SCOPE
	Roles     caller.Rules
	KeyRole   caller.Role
	PageKeys  string // DSVM_PAGE_KEYS; "" = addresses of the page have no keys
	Platform  bool   // App Service has people sign in
}

// platformAuth is set by App Service where its own authentication is switched on, which then
// removes the headers of its name that a client sends.
const platformAuth = "WEBSITE_AUTH_ENABLED"

// entraIssuer is the issuer of a tenant's tokens of version 2.
const entraIssuer = "https://login.microsoftonline.com/%s/v2.0"

// signIn reads the settings.
func (r *reader) signIn() SignIn {
	s := SignIn{
		Issuer:   r.getenv("DSVM_ISSUER"),
		Tenant:   r.getenv("DSVM_TENANT"),
		Platform: strings.EqualFold(r.getenv(platformAuth), "true"),
		KeyRole:  caller.Operator,
	}
	for audience := range strings.SplitSeq(r.getenv("DSVM_AUDIENCE"), ",") {
		if audience = strings.TrimSpace(audience); audience != "" {
			s.Audiences = append(s.Audiences, audience)
		}
	}
	s.Client, s.Scope = r.getenv("DSVM_CLIENT_ID"), r.getenv("DSVM_SCOPE")
	if s.PageKeys = r.getenv(pageKeysSetting); s.PageKeys != "" {
		_, err := newPageKeys(s.PageKeys, s.Client)
		r.add("", err)
	}
	if len(s.Audiences) > 0 {
		s.Client, s.Scope = cmp.Or(s.Client, s.Audiences[0]), cmp.Or(s.Scope, s.Audiences[0]+"/.default")
	}
	if s.Issuer == "" && s.Tenant != "" && len(s.Audiences) > 0 {
		s.Issuer = fmt.Sprintf(entraIssuer, s.Tenant)
	}
	if s.Tenant != "" && !caller.IsSubject(s.Tenant) {
		r.fail("DSVM_TENANT", "DSVM_TENANT is %.100q; it takes the id of a tenant, such as 00000000-0000-0000-0000-000000000000", s.Tenant)
	}
	if s.Issuer != "" {
		_, err := signin.New(s.config(nil))
		r.add("", err)
	}
	var err error
	if s.Roles, err = caller.ParseRules(r.getenv("DSVM_ROLES")); err != nil {
		r.fail("DSVM_ROLES", "DSVM_ROLES: %s", err.Error())
	}
	if text := r.getenv("DSVM_KEY_ROLE"); text != "" {
		if s.KeyRole, err = caller.ParseRole(text); err != nil {
			r.fail("DSVM_KEY_ROLE", "DSVM_KEY_ROLE: %s", err.Error())
		}
	}
	return s
}

func (s SignIn) config(log *slog.Logger) signin.Config {
	return signin.Config{Issuer: s.Issuer, Audiences: s.Audiences, Tenant: s.Tenant, Log: log}
}

// signInWays is where people get tokens.
func (s SignIn) signInWays() wire.SignIn {
	if s.Issuer == "" {
		return wire.SignIn{}
	}
	return wire.SignIn{Issuer: s.Issuer, ClientID: s.Client, Scope: s.Scope}
}

// page is how people sign in to the page. The settings have been checked.
func (s SignIn) page() page.Config {
	out := page.Config{SignIn: s.signInWays(), Platform: s.Platform}
	if keys, err := newPageKeys(s.PageKeys, s.Client); err == nil && s.PageKeys != "" {
		out.Keys = keys
	}
	return out
}

// access is what the HTTP API asks.
func (s SignIn) access(log *slog.Logger) (httpapi.Access, error) {
	out := httpapi.Access{Platform: s.Platform, Tenant: s.Tenant, Roles: s.Roles, Key: s.KeyRole}
	if s.Issuer == "" {
		return out, nil
	}
	tokens, err := signin.New(s.config(log))
	if err != nil {
		return out, err
	}
	out.Tokens = tokens
	out.SignIn = s.signInWays()
	return out, nil
}
