//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/wire"
)

// What the demonstration pushes. The commit needs no repository, since the rule asks
// for no source: that takes git, and the demonstration takes nothing but itself.
const (
	demoRepository = "demo/model"
	demoBranch     = "main"
	demoCommit     = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
	demoContext    = "dsvm/train"
)

// maxStatus bounds what the Git host of the demonstration reads of a request.
const maxStatus = 16 << 10

// gitHost stands for GitHub: it sends a push, signed as GitHub signs it, and keeps
// the statuses that its commit is given.
type gitHost struct {
	secret, token string
	server        *http.Server
	url           string

	mu     sync.Mutex
	states []string // of the commit, in turn
}

func newGitHost() (*gitHost, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gitHost{secret: rand.Text(), token: rand.Text(), url: "http://" + l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /repos/"+demoRepository+"/statuses/"+demoCommit, g.status)
	g.server = &http.Server{Handler: door.Door{}.Guard(mux, true), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second}
	go g.server.Serve(l)
	return g, nil
}

// status takes a status of the commit.
func (g *gitHost) status(w http.ResponseWriter, r *http.Request) {
	var status struct{ State, Context string }
	body, err := io.ReadAll(io.LimitReader(r.Body, maxStatus))
	if err != nil || json.Unmarshal(body, &status) != nil || status.Context != demoContext ||
		!strings.HasSuffix(r.Header.Get("Authorization"), " "+g.token) {
		http.Error(w, "not a status of the commit", http.StatusUnprocessableEntity)
		return
	}
	g.mu.Lock()
	if n := len(g.states); n == 0 || g.states[n-1] != status.State {
		g.states = append(g.states, status.State)
	}
	g.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

// shown is how the commit's status has changed.
func (g *gitHost) shown() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.states)
}

// settings name the secrets that the rule refers to.
func (g *gitHost) settings() map[string]string {
	return map[string]string{"DEMO_PUSH_SECRET": g.secret, "DEMO_PUSH_TOKEN": g.token, "COMMIT_STATUS_SCHEDULE": "* * * * * *",
		outbound.Setting: "127.0.0.1"} // where this host itself is
}

// rule has pushes to the branch start a job.
func (g *gitHost) rule() []byte {
	return fmt.Appendf(nil, `{"name":"train","provider":"github","repository":%q,"secret":"DEMO_PUSH_SECRET","branches":[%q],"source":false,
		"status":{"token":"DEMO_PUSH_TOKEN","context":%q,"api":%q},
		"job":{"pool":"cpu","team":"vision","command":["sh","-c","echo \"$PUSH_AUTHOR pushed $PUSH_COMMIT to $PUSH_BRANCH\""]}}`,
		demoRepository, demoBranch, demoContext, g.url)
}

// push delivers a push, and returns what the deployment answers.
func (g *gitHost) push(ctx context.Context, url string) (answer wire.PushAnswer, err error) {
	body := fmt.Appendf(
		nil,
		`{"ref":"refs/heads/%s","before":"%s","after":"%s","repository":{"full_name":%q,"clone_url":"https://github.com/%s.git"},
		"pusher":{"name":"demo"},"head_commit":{"id":"%[3]s","message":"Train on more data","author":{"name":"demo"}},
		"commits":[{"id":"%[3]s","message":"Train on more data","author":{"name":"demo"},"added":[],"removed":[],"modified":["train.py"]}]}`,
		demoBranch,
		strings.Repeat("1", 40),
		demoCommit,
		demoRepository,
		demoRepository,
	)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/push/github", bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	mac := hmac.New(sha256.New, []byte(g.secret))
	mac.Write(body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-GitHub-Delivery", "demo-1")
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, maxStatus))
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || len(answer.Rules) != 1 || len(answer.Rules[0].Jobs) != 1 {
		return answer, fmt.Errorf("the push started nothing: %s: %s", got.Status, text)
	}
	return answer, nil
}

// pushCommit has a push start a job, which is one of the demonstration's from then on.
func (d *demonstration) pushCommit(ctx context.Context) error {
	if _, err := d.client.ApplyRules(ctx, d.git.rule()); err != nil {
		return err
	}
	answer, err := d.git.push(ctx, d.in.URL)
	if err != nil {
		return err
	}
	d.push = answer.Rules[0]
	d.jobs = append(d.jobs, demoJob{id: d.push.Jobs[0], state: job.Succeeded, attempts: 1})
	fmt.Fprintf(d.p.Err, "dsvm: a push to %s of %s has started a job\n", demoBranch, demoRepository)
	return nil
}

// awaitStatus waits until the commit shows that its job has succeeded.
func (d *demonstration) awaitStatus(ctx context.Context) error {
	for {
		states := d.git.shown()
		if len(states) > 0 && states[len(states)-1] == "success" {
			return nil
		}
		if err := d.pause(ctx); err != nil {
			return fmt.Errorf("the commit shows %v: %w", states, err)
		}
	}
}

// showPush prints what the push has led to.
func (d *demonstration) showPush() {
	w := tabwriter.NewWriter(d.p.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PUSH\tRULE\tJOB\tSTATUS OF THE COMMIT")
	fmt.Fprintf(w, "%s %s %.8s\t%s\t%s\t%s: %s\n", demoRepository, demoBranch, demoCommit, d.push.Rule, d.push.Jobs[0], demoContext,
		strings.Join(d.git.shown(), ", then "))
	_ = w.Flush() // to a terminal
}
