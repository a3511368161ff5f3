package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/wire"
)

const (
	hookSecret  = "what-only-the-host-knows"
	statusToken = "what-may-write-statuses"
	hookEnv     = "DSVM_TEST_HOOK" // makes the test binary a hook; see TestMain
)

// pushSettings are the secrets that the rules of a test name.
func pushSettings() map[string]string {
	return map[string]string{"GITHUB_PUSH_SECRET": hookSecret, "GITHUB_PUSH_TOKEN": statusToken, "COMMIT_STATUS_SCHEDULE": "* * * * * *",
		outbound.Setting: "127.0.0.1"}
}

// hosted is a Git host as far as a push goes: a bare repository behind git's own
// HTTP server with a hook that tells the deployment of each push in GitHub's form, a
// clone, and the commits' statuses.
type hosted struct {
	*instance
	server   *httptest.Server
	statuses *httptest.Server
	dir      string
	clone    string
	answers  string // file of what the deployment has answered, a line for each push

	mu     sync.Mutex
	states map[string][]status // by commit and context
}

type status struct {
	State       string `json:"state"`
	TargetURL   string `json:"target_url"`
	Description string `json:"description"`
	Context     string `json:"context"`
}

// hook is what the repository's hook is told.
type hook struct{ URL, CloneURL, Secret, Answers string }

// repository is the full name of the hosted one.
const repository = "ann/model"

func newHosted(t *testing.T) *hosted {
	t.Helper()
	programs, err := exec.Command("git", "--exec-path").Output()
	server := filepath.Join(strings.TrimSpace(string(programs)), "git-http-backend")
	if err == nil {
		_, err = exec.LookPath(server)
	}
	if err != nil {
		if os.Getenv("DSVM_REQUIRE_GIT") != "" {
			t.Fatalf("git with its HTTP server is not installed, and DSVM_REQUIRE_GIT asks for it: %v", err)
		}
		t.Skipf("git with its HTTP server is not installed; DSVM_REQUIRE_GIT=1 makes that a failure: %v", err)
	}
	h := &hosted{
		instance: startInstance(
			t,
			pushSettings(),
			func(c *local.Config) { c.AgentEnv = append(c.AgentEnv, outbound.Setting+"=127.0.0.1") },
		),
		dir:    t.TempDir(),
		states: map[string][]status{},
	}
	h.clone, h.answers = filepath.Join(h.dir, "clone"), filepath.Join(h.dir, "answers")
	bare := filepath.Join(h.dir, repository+".git")
	h.git(h.dir, "init", "-q", "--bare", "-b", "main", bare)
	h.git(bare, "config", "http.receivepack", "true")
	backend := &cgi.Handler{Path: server, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + h.dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + h.dir, "GIT_CONFIG_NOSYSTEM=1"}}
	h.server = httptest.NewServer(backend)
	t.Cleanup(h.server.Close)
	h.statuses = httptest.NewServer(http.HandlerFunc(h.status))
	t.Cleanup(h.statuses.Close)
	told, _ := json.Marshal(hook{h.URL, h.server.URL + "/" + repository + ".git", hookSecret, h.answers})
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s'\n", hookEnv, told, os.Args[0])
	if err := os.WriteFile(filepath.Join(bare, "hooks", "post-receive"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.git(h.dir, "clone", "-q", h.server.URL+"/"+repository+".git", h.clone)
	h.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`)
	return h
}

// git runs git as a person would, and returns what it says.
func (h *hosted) git(dir string, args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ann",
		"GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files and commits them.
func (h *hosted) commit(message string, files map[string]string) string {
	h.t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(h.clone, name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	h.git(h.clone, "add", "-A")
	h.git(h.clone, "commit", "-q", "-m", message)
	return h.git(h.clone, "rev-parse", "HEAD")
}

// push pushes, and returns what the deployment has answered to the hook.
func (h *hosted) push(args ...string) wire.PushAnswer {
	h.t.Helper()
	os.Remove(h.answers)
	said := h.git(h.clone, append([]string{"push", "origin"}, args...)...)
	text, err := os.ReadFile(h.answers)
	var answer wire.PushAnswer
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		h.t.Fatalf("the hook has no answer: %v\n%s\n%s", err, said, text)
	}
	return answer
}

// rule applies a rule for the repository.
func (h *hosted) rule(name, rest string) {
	h.t.Helper()
	doc := fmt.Sprintf(`{"name":%q,"provider":"github","server":%q,"repository":%q,"secret":"GITHUB_PUSH_SECRET","status":{"token":"GITHUB_PUSH_TOKEN","api":%q},%s}`,
		name, h.server.URL, repository, h.statuses.URL, rest)
	if _, err := h.client.ApplyRules(h.ctx, []byte(doc)); err != nil {
		h.t.Fatal(err)
	}
}

// started is the job of a push that one rule has let start one; the others have not.
func (h *hosted) started(answer wire.PushAnswer) string {
	h.t.Helper()
	var jobs []string
	for _, r := range answer.Rules {
		jobs = append(jobs, r.Jobs...)
	}
	if len(jobs) != 1 {
		h.t.Fatalf("the push has started %v: %+v", jobs, answer)
	}
	return jobs[0]
}

var statusPath = regexp.MustCompile(`^/repos/ann/model/statuses/([0-9a-f]{40})$`)

// status takes a status as GitHub's API does, with its rules.
func (h *hosted) status(w http.ResponseWriter, r *http.Request) {
	var s status
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	at := statusPath.FindStringSubmatch(r.URL.Path)
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	switch {
	case err != nil || at == nil || r.Method != http.MethodPost || r.Header.Get("Accept") != "application/vnd.github+json":
		err = fmt.Errorf("%s %s with %q, %v", r.Method, r.URL.Path, r.Header.Get("Accept"), err)
	case r.Header.Get("Authorization") != "Bearer "+statusToken:
		err = fmt.Errorf("the token is %q", r.Header.Get("Authorization"))
	default:
		err = decoder.Decode(&s)
		if link, _ := url.Parse(s.TargetURL); err == nil &&
			(!slices.Contains([]string{"error", "failure", "pending", "success"}, s.State) || s.Context == "" ||
				len(s.Description) > 140 || link == nil || link.Host == "") {
			err = fmt.Errorf("not a status: %s", body)
		}
	}
	if err != nil {
		h.t.Error(err)
		http.Error(w, "no", http.StatusUnprocessableEntity)
		return
	}
	h.mu.Lock()
	h.states[at[1]+" "+s.Context] = append(h.states[at[1]+" "+s.Context], s)
	h.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

// shows waits until a commit shows a state that stays, and returns the last status.
func (h *hosted) shows(commit, context, state string) status {
	h.t.Helper()
	var all []status
	h.until(fmt.Sprintf("the end of %s on %.8s", context, commit), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		all = slices.Clone(h.states[commit+" "+context])
		return len(all) > 0 && all[len(all)-1].State != "pending"
	})
	last := all[len(all)-1]
	if last.State != state {
		h.t.Errorf("%s on %.8s: got %+v, want %s", context, commit, all, state)
	}
	for _, s := range all[:len(all)-1] {
		if s.State != "pending" {
			h.t.Errorf("%s on %.8s was %s before", context, commit, s.State)
		}
	}
	return last
}

// waits waits until a commit shows that its job has not ended.
func (h *hosted) waits(commit, context string) {
	h.t.Helper()
	h.until(fmt.Sprintf("a status of %s on %.8s", context, commit), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.states[commit+" "+context]) > 0
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if all := h.states[commit+" "+context]; all[0].State != "pending" {
		h.t.Errorf("%s on %.8s: got %+v, want pending", context, commit, all)
	}
}

// log is what a job has written, as the API gives it out.
func (h *hosted) log(id string) string {
	h.t.Helper()
	var out strings.Builder
	if err := h.client.ReadLog(h.ctx, client.Log{Job: id, Stream: "stdout"}, false, &out); err != nil {
		h.t.Error(err)
	}
	return out.String()
}

// none is how Git writes a commit that is not there.
var none = strings.Repeat("0", 40)

// postReceive is the hook of the repository: it tells of each ref that was moved as
// GitHub does.
func postReceive(settings string) error {
	var to hook
	if err := json.Unmarshal([]byte(settings), &to); err != nil {
		return err
	}
	git := func(args ...string) string {
		out, _ := exec.Command("git", args...).Output()
		return strings.TrimSpace(string(out))
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		before, after, ref := f[0], f[1], f[2]
		type commit struct {
			ID       string            `json:"id"`
			Message  string            `json:"message"`
			Author   map[string]string `json:"author"`
			Added    []string          `json:"added"`
			Modified []string          `json:"modified"`
			Removed  []string          `json:"removed"`
		}
		read := func(id string) commit {
			c := commit{
				ID:      id,
				Message: git("log", "-1", "--format=%B", id),
				Author:  map[string]string{"name": git("log", "-1", "--format=%an", id)},
			}
			changes := strings.Split(git("diff-tree", "--root", "-r", "-z", "--no-commit-id", "--name-status", "--no-renames", id), "\x00")
			for i := 0; i+1 < len(changes); i += 2 {
				into := map[string]*[]string{"A": &c.Added, "M": &c.Modified, "D": &c.Removed}[changes[i]]
				*into = append(*into, changes[i+1])
			}
			return c
		}
		payload := map[string]any{
			"ref":     ref,
			"before":  before,
			"after":   after,
			"created": before == none,
			"deleted": after == none,
			"forced":  false,
			"repository": map[string]any{
				"full_name": repository,
				"clone_url": to.CloneURL,
			},
			"pusher":      map[string]string{"name": "ann"},
			"head_commit": nil,
			"commits":     []commit{},
		}
		if after != none {
			payload["head_commit"] = read(git("rev-parse", after+"^{commit}"))
		}
		if after != none && before != none {
			payload["forced"] = exec.Command("git", "merge-base", "--is-ancestor", before, after).Run() != nil
			var commits []commit
			for _, id := range strings.Fields(git("rev-list", "--reverse", before+".."+after)) {
				commits = append(commits, read(id))
			}
			payload["commits"] = commits
		}
		body, err := json.Marshal(payload)
		if err != nil {
			return err
		}
		_, answer, err := deliver(context.Background(), to.URL, to.Secret, body)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to.Answers, answer, 0o600); err != nil {
			return err
		}
	}
	return lines.Err()
}

// deliver posts a payload as GitHub does, and returns what is answered.
func deliver(ctx context.Context, to, secret string, body []byte) (code int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to+"/api/push/github", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-GitHub-Delivery", hex.EncodeToString(mac.Sum(nil)[:16]))
	if secret != "" {
		r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer got.Body.Close()
	answer, err = io.ReadAll(got.Body)
	return got.StatusCode, answer, err
}
