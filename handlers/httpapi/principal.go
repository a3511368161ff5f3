package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"dsvmpools/shared/caller"
)

// Headers in which the authentication of App Service tells who has signed in: "Work with
// user identities in Azure App Service authentication". It removes what a client sends in
// their place, and only where it is switched on.
const (
	principalHeader = "X-Ms-Client-Principal"
	providerHeader  = "X-Ms-Client-Principal-Idp"
)

// maxPrincipal bounds the header of a person's claims.
const maxPrincipal = 64 << 10

// Names of claims, short as in a token and long as the platform writes some of them.
var (
	objectClaims = []string{"oid", "http://schemas.microsoft.com/identity/claims/objectidentifier"}
	tenantClaims = []string{"tid", "http://schemas.microsoft.com/identity/claims/tenantid"}
	loginClaims  = []string{"preferred_username", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
		"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"}
)

// readPrincipal reads whom the platform tells. Its errors are parts of sentences.
func readPrincipal(h http.Header, tenant string) (caller.Person, error) {
	text := h.Get(principalHeader)
	if len(text) > maxPrincipal || len(h.Values(principalHeader)) > 1 {
		return caller.Person{}, errors.New("it is too long")
	}
	body, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return caller.Person{}, errors.New("it cannot be read")
	}
	var principal struct {
		Provider string `json:"auth_typ"`
		Claims   []struct {
			Type  string `json:"typ"`
			Value string `json:"val"`
		} `json:"claims"`
	}
	if err := json.Unmarshal(body, &principal); err != nil {
		return caller.Person{}, errors.New("it cannot be read")
	}
	if principal.Provider != "aad" || h.Get(providerHeader) != "" && h.Get(providerHeader) != "aad" {
		return caller.Person{}, errors.New("it is not of Microsoft Entra ID")
	}
	var groups []string
	overage := false
	values := map[string]string{}
	for _, claim := range principal.Claims {
		switch claim.Type {
		case "groups":
			groups = append(groups, claim.Value)
		case "hasgroups", "_claim_names":
			overage = true
		default:
			if _, twice := values[claim.Type]; !twice {
				values[claim.Type] = claim.Value
			}
		}
	}
	first := func(names []string) string {
		for _, name := range names {
			if v := values[name]; v != "" {
				return v
			}
		}
		return ""
	}
	id := first(objectClaims)
	if !caller.IsSubject(id) {
		return caller.Person{}, errors.New("it does not say whose it is")
	}
	if tenant != "" && !strings.EqualFold(first(tenantClaims), tenant) {
		return caller.Person{}, errors.New("it is of another tenant than that of this deployment")
	}
	return caller.Person{ID: strings.ToLower(id), Login: first(loginClaims), Groups: groups, Overage: overage && len(groups) == 0}, nil
}
