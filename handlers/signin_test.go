package handlers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"dsvmpools/shared/caller"
)

// Who may sign in follows from the settings, and without them nobody may.
func TestSignInSettings(t *testing.T) {
	t.Parallel()
	const tenant, app = "11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-666666666666"
	for _, c := range []struct {
		name, issuer string
		settings     map[string]string
		tokens       bool
		platform     bool
		key          caller.Role
	}{
		{name: "nothing", key: caller.Operator},
		{name: "Entra", settings: map[string]string{"DSVM_TENANT": tenant, "DSVM_AUDIENCE": app + ", api://" + app, "DSVM_KEY_ROLE": "reader"},
			issuer: "https://login.microsoftonline.com/" + tenant + "/v2.0", tokens: true, key: caller.Reader},
		{name: "an issuer", settings: map[string]string{"DSVM_ISSUER": "http://127.0.0.1:99", "DSVM_AUDIENCE": app},
			issuer: "http://127.0.0.1:99", tokens: true, key: caller.Operator},
		{name: "the platform", settings: map[string]string{"WEBSITE_AUTH_ENABLED": "True", "DSVM_TENANT": tenant}, platform: true, key: caller.Operator},
		{name: "the platform, switched off", settings: map[string]string{"WEBSITE_AUTH_ENABLED": "False"}, key: caller.Operator},
	} {
		settings := goodSettings()
		for name, v := range c.settings {
			settings[name] = v
		}
		s, err := ReadSettings(func(name string) string { return settings[name] })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		access, err := s.SignIn.access(nil)
		if err != nil || s.SignIn.Issuer != c.issuer || (access.Tokens != nil) != c.tokens || access.Platform != c.platform || access.Key != c.key {
			t.Errorf("%s: got %+v, %v", c.name, access, err)
		}
	}
}

// What is below /web/api is the API's, in any case of letters, with its method and body.
func TestSiteLeadsToTheAPI(t *testing.T) {
	t.Parallel()
	h := site(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.URL.Path)
	}), http.NotFoundHandler())
	for path, status := range map[string]int{
		"/web/api/jobs": 418, "/Web/API/jobs": 418, "/web/api": 404, "/web/apis/x": 404, "/web/x": 404, "/x/web/api/jobs": 404, "/": 404,
	} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, httptest.NewRequest("POST", path, nil)); w.Code != status {
			t.Errorf("%s: got %d %s, want %d", path, w.Code, w.Body, status)
		}
	}
}
