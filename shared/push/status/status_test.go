package status_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/push"
	"dsvmpools/shared/push/status"
)

// What each host is sent, as its documentation has it.
func TestShapes(t *testing.T) {
	t.Parallel()
	for provider, want := range map[push.Provider]struct{ repository, path, header, value, body string }{
		push.GitHub: {"octo/model", "/api/v3/repos/octo/model/statuses/abc", "Authorization", "Bearer t0k",
			`{"context":"dsvm/train","description":"it failed","state":"failure","target_url":"https://x/api/jobs/j"}`},
		push.Gitea: {"octo/model", "/api/v1/repos/octo/model/statuses/abc", "Authorization", "token t0k",
			`{"context":"dsvm/train","description":"it failed","state":"failure","target_url":"https://x/api/jobs/j"}`},
		push.GitLab: {"group/sub/model", "/api/v4/projects/group%2Fsub%2Fmodel/statuses/abc", "PRIVATE-TOKEN", "t0k",
			`{"description":"it failed","name":"dsvm/train","state":"failed","target_url":"https://x/api/jobs/j"}`},
		push.Bitbucket: {"team/model", "/2.0/repositories/team/model/commit/abc/statuses/build", "Authorization", "Bearer t0k",
			`{"description":"it failed","key":"dsvm/train","name":"dsvm/train","state":"FAILED","url":"https://x/api/jobs/j"}`},
		push.AzureDevOps: {"org/My Project/model", "/org/My%20Project/_apis/git/repositories/model/commits/abc/statuses?api-version=7.1", "Authorization", "Basic OnQwaw==",
			`{"context":{"genre":"dsvm","name":"train"},"description":"it failed","state":"failed","targetUrl":"https://x/api/jobs/j"}`},
	} {
		t.Run(string(provider), func(t *testing.T) {
			t.Parallel()
			var method, path, value, body string
			host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				method, path, value, body = r.Method, r.RequestURI, r.Header.Get(want.header), string(b)
				w.WriteHeader(http.StatusCreated)
			}))
			defer host.Close()
			p := status.Poster{Provider: provider, Server: host.URL, Token: "t0k", Client: here(t)}
			if provider == push.Bitbucket {
				p.API = host.URL + "/2.0"
			}
			err := p.Post(
				t.Context(),
				status.Report{
					Repository:  want.repository,
					Commit:      "abc",
					Context:     "dsvm/train",
					State:       status.Failure,
					Description: "it failed",
					URL:         "https://x/api/jobs/j",
				},
			)
			if err != nil || method != "POST" || path != want.path || value != want.value || body != want.body {
				t.Errorf("got %v %s %s %q\n%s\nwant %s %q\n%s", err, method, path, value, body, want.path, want.value, want.body)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		provider push.Provider
		status   int
		header   [2]string
		body     string
		code     fault.Code
		after    time.Duration
	}{
		"created":         {push.GitHub, 201, [2]string{}, "", "", 0},
		"too many":        {push.GitHub, 429, [2]string{"Retry-After", "7"}, "", fault.Throttled, 7 * time.Second},
		"secondary limit": {push.GitHub, 403, [2]string{"Retry-After", "60"}, "", fault.Throttled, time.Minute},
		"used up":         {push.GitHub, 403, [2]string{"X-RateLimit-Remaining", "0"}, "", fault.Throttled, 0},
		"no right":        {push.GitHub, 403, [2]string{}, "", fault.Invalid, 0},
		"no commit":       {push.GitHub, 422, [2]string{}, "", fault.Invalid, 0},
		"broken":          {push.GitHub, 502, [2]string{}, "", fault.Internal, 0},
		"redirected":      {push.GitHub, 302, [2]string{"Location", "https://elsewhere.example"}, "", fault.Invalid, 0},
		"said before":     {push.GitLab, 400, [2]string{}, `{"message":"Cannot transition status via :run from :running"}`, "", 0},
		"sign in":         {push.AzureDevOps, 203, [2]string{}, "<html>", fault.Invalid, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if test.header[0] != "" {
					w.Header().Set(test.header[0], test.header[1])
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer host.Close()
			err := status.Poster{
				Provider: test.provider,
				Server:   host.URL,
				Token:    "t0k",
				Client:   here(t),
			}.Post(
				t.Context(),
				status.Report{Repository: "a/b/c", Commit: "abc", State: status.Pending, Description: strings.Repeat("é", 500)},
			)
			var f fault.Error
			if e, ok := err.(*fault.Error); ok {
				f = *e
			}
			if f.Code != test.code || f.RetryAfter != test.after || err != nil && strings.Contains(err.Error(), "t0k") {
				t.Errorf("got %v (%s, %v), want %s, %v", err, f.Code, f.RetryAfter, test.code, test.after)
			}
		})
	}
}

// here is a client that may reach the tests' own servers.
func here(t *testing.T) *http.Client {
	t.Helper()
	guard, err := outbound.Parse("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return guard.Client()
}

// TestPostInside: who writes a rule chooses the address, and the token goes to none that
// is inside, also not by a redirect.
func TestPostInside(t *testing.T) {
	t.Parallel()
	reached := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer inside.Close()
	report := status.Report{Repository: "a/b", Commit: "abc", State: status.Pending}
	for _, api := range []string{inside.URL, strings.Replace(inside.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254", "https://10.0.0.1:1", "http://[::1]:1"} {
		err := status.Poster{Provider: push.GitHub, Server: "https://github.com", API: api, Token: "t0k"}.Post(t.Context(), report)
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "DSVM_ALLOW_PRIVATE_HOSTS") || reached {
			t.Errorf("%s: got %v, reached %v", api, err, reached)
		}
	}
	away := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
	defer away.Close()
	err := status.Poster{Provider: push.GitHub, Server: away.URL, API: away.URL, Token: "t0k", Client: here(t)}.Post(t.Context(), report)
	if err == nil || reached {
		t.Errorf("by a redirect: got %v, reached %v", err, reached)
	}
}
