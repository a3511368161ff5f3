//go:build unix

package compute

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The sign-in: clients that bring no token of their own, such as az, get one here, as from
// Microsoft Entra ID. The password of every service principal is Config.Token, and so is the
// token that it gets. Any tenant will do.
const (
	discoveryEnd = "/v2.0/.well-known/openid-configuration" // of a path, after the tenant
	tokenEnd     = "/oauth2/v2.0/token"
	signInLife   = 24 * 60 * 60 // seconds; the token itself does not end
)

// signInHandler returns what answers a request of the sign-in; nil = it is another request.
func (s *Server) signInHandler(path string) func(http.ResponseWriter, *http.Request) error {
	tenant, end, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case tenant == "":
		return nil
	case "/"+end == discoveryEnd:
		return s.discovery
	case "/"+end == tokenEnd:
		return s.signIn
	}
	return nil
}

// discovery answers where tokens are had.
func (s *Server) discovery(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return errNotServed
	}
	authority := s.baseURL(r) + strings.TrimSuffix(r.URL.Path, discoveryEnd)
	return json.NewEncoder(w).Encode(map[string]any{
		"issuer":                                authority + "/v2.0",
		"token_endpoint":                        authority + tokenEnd,
		"authorization_endpoint":                authority + "/oauth2/v2.0/authorize", // nobody signs in there
		"token_endpoint_auth_methods_supported": []string{"client_secret_post"},
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
}

// signIn gives a service principal its token.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return errNotServed
	}
	deny := func(status int, code, sentence string) error {
		w.WriteHeader(status)
		return json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": sentence})
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		return deny(http.StatusBadRequest, "unsupported_grant_type",
			"The local compute signs in service principals with a secret only; use `az login --service-principal`.")
	}
	if !isEqualSecret(r.PostForm.Get("client_secret"), s.cfg.Token) {
		return deny(http.StatusUnauthorized, "invalid_client", "The secret is not the armToken of instance.json.")
	}
	return json.NewEncoder(w).Encode(map[string]any{
		"token_type":     "Bearer",
		"expires_in":     signInLife,
		"ext_expires_in": signInLife,
		"access_token":   s.cfg.Token,
	})
}

// listSubscriptions lists the one subscription.
func (s *Server) listSubscriptions(w http.ResponseWriter, _ *call) error {
	return json.NewEncoder(w).Encode(map[string]any{"value": []any{s.subscriptionBody()}})
}

// getSubscription answers with the subscription.
func (s *Server) getSubscription(w http.ResponseWriter, _ *call) error {
	return json.NewEncoder(w).Encode(s.subscriptionBody())
}

func (s *Server) subscriptionBody() any {
	return map[string]any{
		"id":                  "/subscriptions/" + s.cfg.SubscriptionID,
		"subscriptionId":      s.cfg.SubscriptionID,
		"tenantId":            s.cfg.SubscriptionID, // any tenant will do
		"displayName":         "local",
		"state":               "Enabled",
		"authorizationSource": "RoleBased",
	}
}

// listGroups lists the one resource group.
func (s *Server) listGroups(w http.ResponseWriter, _ *call) error {
	return json.NewEncoder(w).Encode(map[string]any{"value": []any{s.groupBody()}})
}

// getGroup answers with the resource group.
func (s *Server) getGroup(w http.ResponseWriter, _ *call) error {
	return json.NewEncoder(w).Encode(s.groupBody())
}

func (s *Server) groupBody() any {
	return map[string]any{
		"id":         "/subscriptions/" + s.cfg.SubscriptionID + "/resourceGroups/" + s.cfg.ResourceGroup,
		"name":       s.cfg.ResourceGroup,
		"type":       "Microsoft.Resources/resourceGroups",
		"location":   s.cfg.Location,
		"properties": map[string]string{"provisioningState": "Succeeded"},
	}
}
