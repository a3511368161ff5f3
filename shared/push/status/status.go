// Package status reports the state of a job to a Git host, as a status of the
// commit. It makes one request per call and never waits: its caller tries
// again later, no sooner than the error says.
package status

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/push"
)

// callTimeout bounds one request: a Git host that takes longer is not waited
// for, since other commits wait too.
const callTimeout = 10 * time.Second

// maxDescription is what GitHub takes, the least of all.
const maxDescription = 140

// State of a job as a commit shows it.
type State string

const (
	Pending State = "pending"
	Running State = "running"
	Success State = "success"
	Failure State = "failure" // the job's own
	Error   State = "error"   // the platform's, or somebody ended it
)

// Report is what a commit shows about a job.
type Report struct {
	Repository, Commit string
	Context            string
	State              State
	Description        string
	URL                string // of the job
}

// Poster posts to one Git host.
type Poster struct {
	Provider push.Provider
	Server   string
	API      string // "" = what follows from the server
	Token    string
	Client   *http.Client // nil = one that reaches public addresses alone, and follows no redirect
}

// public is the client of a Poster without a client of its own.
var public = outbound.Guard{}.Client()

// Post sends a report. Errors: Throttled with RetryAfter when the host asks to be
// left alone, Internal when it does not answer, Invalid when it refuses.
func (p Poster) Post(ctx context.Context, r Report) error {
	r.Description = short(r.Description)
	address, body, err := p.request(r)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(payload))
	if err != nil {
		return fault.New(fault.Invalid, "", "the address of the status cannot be made of repository %q", r.Repository)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("User-Agent", "dsvmpools")
	p.authorize(q.Header)
	response, err := cmp.Or(p.Client, public).Do(q)
	if refused := (*outbound.RefusedError)(nil); errors.As(err, &refused) {
		return fault.New(fault.Invalid, "", "the Git host gets no status: %v", refused)
	}
	if err != nil {
		return &fault.Error{Code: fault.Internal, Message: "the Git host does not answer", Err: err}
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	return judge(p.Provider, response, answer)
}

// request is where a report goes and in what shape.
func (p Poster) request(r Report) (string, any, error) {
	parts := strings.Split(r.Repository, "/")
	if len(parts) < 2 || p.Provider == push.AzureDevOps && len(parts) != 3 {
		return "", nil, fault.New(fault.Invalid, "", "%q is no full name of a repository", r.Repository)
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	path := strings.Join(parts, "/")
	switch p.Provider {
	case push.GitHub:
		base := p.Server + "/api/v3"
		if p.Server == "https://github.com" {
			base = "https://api.github.com"
		}
		return fmt.Sprintf("%s/repos/%s/statuses/%s", cmp.Or(p.API, base), path, r.Commit),
			map[string]string{"state": simple(r.State), "target_url": r.URL, "description": r.Description, "context": r.Context}, nil
	case push.Gitea:
		return fmt.Sprintf("%s/repos/%s/statuses/%s", cmp.Or(p.API, p.Server+"/api/v1"), path, r.Commit),
			map[string]string{"state": simple(r.State), "target_url": r.URL, "description": r.Description, "context": r.Context}, nil
	case push.GitLab:
		state := map[State]string{Pending: "pending", Running: "running", Success: "success", Failure: "failed", Error: "failed"}[r.State]
		return fmt.Sprintf("%s/projects/%s/statuses/%s", cmp.Or(p.API, p.Server+"/api/v4"), url.PathEscape(r.Repository), r.Commit),
			map[string]string{"state": state, "target_url": r.URL, "description": r.Description, "name": r.Context}, nil
	case push.Bitbucket:
		state := map[State]string{
			Pending: "INPROGRESS",
			Running: "INPROGRESS",
			Success: "SUCCESSFUL",
			Failure: "FAILED",
			Error:   "STOPPED",
		}[r.State]
		return fmt.Sprintf("%s/repositories/%s/commit/%s/statuses/build", cmp.Or(p.API, "https://api.bitbucket.org/2.0"), path, r.Commit),
			map[string]string{"key": r.Context, "state": state, "name": r.Context, "url": r.URL, "description": r.Description}, nil
	case push.AzureDevOps:
		state := map[State]string{Pending: "pending", Running: "pending", Success: "succeeded", Failure: "failed", Error: "error"}[r.State]
		base := p.Server + "/" + parts[0]
		if push.Host(p.Server) == strings.ToLower(parts[0])+".visualstudio.com" {
			base = p.Server
		}
		genre, name, found := strings.Cut(r.Context, "/")
		if !found {
			genre, name = "dsvm", r.Context
		}
		return fmt.Sprintf(
				"%s/%s/_apis/git/repositories/%s/commits/%s/statuses?api-version=7.1",
				cmp.Or(p.API, base),
				parts[1],
				parts[2],
				r.Commit,
			),
			map[string]any{"state": state, "targetUrl": r.URL, "description": r.Description,
				"context": map[string]string{"name": name, "genre": genre}}, nil
	}
	return "", nil, fault.New(fault.Invalid, "provider", "there is no provider %q", p.Provider)
}

// simple is a state where hosts know nothing between waiting and done.
func simple(s State) string {
	if s == Running {
		s = Pending
	}
	return string(s)
}

func (p Poster) authorize(h http.Header) {
	switch p.Provider {
	case push.GitHub:
		h.Set("Authorization", "Bearer "+p.Token)
		h.Set("Accept", "application/vnd.github+json")
		h.Set("X-GitHub-Api-Version", "2022-11-28")
	case push.Gitea:
		h.Set("Authorization", "token "+p.Token)
	case push.GitLab:
		h.Set("PRIVATE-TOKEN", p.Token)
	case push.Bitbucket:
		h.Set("Authorization", "Bearer "+p.Token)
	case push.AzureDevOps:
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(":"+p.Token)))
	}
}

// judge turns an answer into an error that says when to come back.
func judge(provider push.Provider, r *http.Response, body []byte) error {
	limited := r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusServiceUnavailable ||
		r.StatusCode == http.StatusForbidden && (r.Header.Get("Retry-After") != "" || r.Header.Get("X-RateLimit-Remaining") == "0")
	switch {
	// Azure DevOps answers 203 with a page to sign in.
	case r.StatusCode >= 200 && r.StatusCode < 300 && r.StatusCode != http.StatusNonAuthoritativeInfo:
		return nil
	case provider == push.GitLab && r.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte("Cannot transition status")):
		return nil // it says so already
	case limited:
		return &fault.Error{
			Code:       fault.Throttled,
			Message:    fmt.Sprintf("the Git host asks to be left alone (%d)", r.StatusCode),
			RetryAfter: wait(r.Header),
		}
	case r.StatusCode >= 500:
		return fault.New(fault.Internal, "", "the Git host answers %d", r.StatusCode)
	}
	return fault.New(fault.Invalid, "",
		"the Git host refuses the status with %d; check the token's rights and the repository's name", r.StatusCode)
}

// wait is how long a host wants to be left alone: Retry-After in seconds or as a
// date, or the end of GitHub's window.
func wait(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(time.Until(t), 0)
	}
	if n, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil {
		return max(time.Until(time.Unix(n, 0)), 0)
	}
	return 0
}

// short cuts a sentence to what every host takes.
func short(s string) string {
	runes := []rune(s)
	if len(runes) <= maxDescription {
		return s
	}
	return string(runes[:maxDescription-3]) + "..."
}
