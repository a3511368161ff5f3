package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvmpools/local"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// A push to a real repository runs a job at exactly that commit, and the commit
// shows how it ended.
func TestPush(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.rule("train", `"cancelPrevious":true,"branches":["**","!wip/**"],"paths":["*.sh"],"job":{"pool":"cpu","script":"git rev-parse HEAD; echo \"$PUSH_BRANCH by $PUSH_AUTHOR: $PUSH_MESSAGE\"; sh run.sh"}`)
	h.rule("release", `"tags":["v*"],"job":{"pool":"cpu","command":["git","rev-parse","HEAD"],"name":"{{.Tag}}"}`)

	good := h.commit("A good one", map[string]string{"run.sh": "until [ -e \"$DSVM_SHARE/go\" ]; do sleep 0.05; done; echo fine\n"})
	id := h.started(h.push("main"))
	h.waits(good, "dsvm/train")
	if err := os.WriteFile(filepath.Join(h.Share, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.shows(good, "dsvm/train", "success")
	if got, want := h.log(id), good+"\nmain by Ann: A good one\nfine\n"; got != want {
		t.Errorf("the job said %q, want %q", got, want)
	}

	bad := h.commit("A bad one", map[string]string{"run.sh": "exit 3\n"})
	h.push("main")
	if s := h.shows(bad, "dsvm/train", "failure"); !strings.Contains(s.Description, "exit code 3") ||
		!strings.HasPrefix(s.TargetURL, h.URL+"/api/jobs/") {
		t.Errorf("got %+v", s)
	}

	slow := h.commit("A slow one", map[string]string{"run.sh": "sleep 600\n"})
	id = h.started(h.push("main"))
	h.until("the slow job's start", func() bool {
		j, err := h.client.Job(h.ctx, id)
		return err == nil && j.State == job.Running
	})
	h.waits(slow, "dsvm/train")
	quick := h.commit("A quick one", map[string]string{"run.sh": "echo quick\n"})
	h.push("main")
	h.shows(slow, "dsvm/train", "error")
	h.shows(quick, "dsvm/train", "success")

	var quiet []string
	for _, tt := range []struct {
		name    string
		files   map[string]string
		message string
		to      string
		says    string
	}{
		{"[skip ci]", map[string]string{"run.sh": "echo skipped\n"}, "Quiet [skip ci]", "HEAD:main", "asks for no jobs"},
		{"no file that matters", map[string]string{"README": "more\n"}, "Words", "HEAD:main", "none of the 1 changed files fits"},
		{"another branch", map[string]string{"run.sh": "echo wip\n"}, "Not yet", "HEAD:wip/x", "wip/x"},
	} {
		quiet = append(quiet, h.commit(tt.message, tt.files))
		h.refuses(tt.name, tt.says, tt.to)
	}
	h.refuses("a branch that goes", "was deleted", ":wip/x")

	h.git(h.clone, "reset", "-q", "--hard", good)
	forced := h.commit("Another history", map[string]string{"run.sh": "echo forced\n"})
	id = h.started(h.push("--force", "HEAD:main"))
	h.shows(forced, "dsvm/train", "success")
	if got := h.log(id); !strings.HasPrefix(got, forced+"\n") {
		t.Errorf("after the forced push the job said %q", got)
	}

	h.git(h.clone, "tag", "-a", "v1", "-m", "The first one")
	id = h.started(h.push("v1"))
	h.shows(forced, "dsvm/release", "success") // on the commit, not on the tag
	if got, want := h.log(id), forced+"\n"; got != want {
		t.Errorf("the tag's job said %q, want %q", got, want)
	}
	if jobs := h.jobs(6); len(jobs) != 6 {
		t.Errorf("got %d jobs, want one for each of 6 pushes", len(jobs))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, commit := range quiet {
		if got := h.states[commit+" dsvm/train"]; len(got) > 0 {
			t.Errorf("%.8s has started nothing and shows %+v", commit, got)
		}
	}
}

// refuses pushes something that starts no job.
func (h *hosted) refuses(name, says string, args ...string) {
	h.t.Helper()
	answer := h.push(args...)
	reasons := answer.Ignored
	for _, r := range answer.Rules {
		reasons += r.Reason
		if len(r.Jobs) > 0 {
			h.t.Errorf("%s: started %v", name, r.Jobs)
		}
	}
	if !strings.Contains(reasons, says) {
		h.t.Errorf("%s: got %q, want %q", name, reasons, says)
	}
}

// The jobs stand in the repository; a file that is wrong shows on the commit.
func TestPushFromFile(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.rule("own", `"fromFile":true,"team":"vision","job":{"pool":"cpu"}`)
	good := h.commit("Jobs", map[string]string{"data": "kept\n", ".dsvm.yaml": `jobs:
  - id: prepare
    script: cp data $DSVM_SHARE/prepared; git rev-parse HEAD
  - id: train
    after: [prepare]
    script: cat $DSVM_SHARE/prepared
`})
	h.push("main")
	h.shows(good, "dsvm/own", "success")
	h.shows(good, "dsvm/own/prepare", "success")
	h.shows(good, "dsvm/own/train", "success")
	jobs, err := h.client.Jobs(h.ctx, client.JobFilter{Team: "vision"}, 10)
	if err != nil || len(jobs) != 3 {
		t.Fatalf("got %d jobs, %v", len(jobs), err)
	}
	for _, j := range jobs {
		want := map[string]string{"prepare": good + "\n", "train": "kept\n"}[j.ID[strings.LastIndexAny(j.ID, ".-")+1:]]
		if want != "" && h.log(j.ID) != want {
			t.Errorf("job %s said %q, want %q", j.ID, h.log(j.ID), want)
		}
	}

	wrong := h.commit("A mistake", map[string]string{".dsvm.yaml": "job:\n  pool: cpu\n  comand: [true]\n"})
	h.push("main")
	if s := h.shows(wrong, "dsvm/own", "failure"); !strings.Contains(s.Description, ".dsvm.yaml, line 3") ||
		!strings.Contains(s.Description, "comand") {
		t.Errorf("got %q", s.Description)
	}
	if jobs, err := h.client.Jobs(h.ctx, client.JobFilter{Team: "vision"}, 10); err != nil || len(jobs) != 4 {
		t.Errorf("got %d jobs, %v; want the three and the one that has read the wrong file", len(jobs), err)
	}
}

// pushOf is a payload that moves a branch.
func pushOf(branch string, commit int) []byte {
	return fmt.Appendf(nil, `{"ref":"refs/heads/%s","before":"%s","after":"%040x","repository":{"full_name":"octo/model","clone_url":"https://github.com/octo/model.git"},
		"head_commit":{"id":"%040x","message":"m","author":{"name":"ann"}},"commits":[]}`, branch, strings.Repeat("1", 40), commit, commit)
}

const plainRule = `{"name":"r","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","source":false,"job":{"pool":"cpu","command":["sleep","0.2"]}}`

// Who does not know the secret starts nothing, in whatever way he tries, and a
// delivery starts its job once, whatever happens to the handler.
func TestHostileDeliveries(t *testing.T) {
	t.Parallel()
	i := startInstance(t, pushSettings(), func(cfg *local.Config) { cfg.MessageLock = 2 * time.Second })
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"min":1,"max":1}}`)
	i.until("a node", func() bool { // capacity whose asker was killed is asked for again after a minute only
		p, err := i.client.Pool(i.ctx, "cpu")
		return err == nil && p.Nodes.Ready == 1
	})
	if _, err := i.client.ApplyRules(i.ctx, []byte(plainRule)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		secret string
		body   []byte
		code   int
	}{
		"another secret": {"guessed", pushOf("forged", 1), http.StatusUnauthorized},
		"no signature":   {"", pushOf("forged", 1), http.StatusUnauthorized},
		"no push":        {hookSecret, []byte(`{"ref":7}`), http.StatusBadRequest},
		"no JSON":        {hookSecret, pushOf("forged", 1)[:60], http.StatusBadRequest},
		"100 MB":         {hookSecret, make([]byte, 100_000_000), http.StatusRequestEntityTooLarge},
	} {
		if code, answer, err := deliver(i.ctx, i.URL, tt.secret, tt.body); err != nil || code != tt.code {
			t.Errorf("%s: got %d %s, %v; want %d", name, code, answer, err, tt.code)
		}
	}
	i.breaksOff()
	handlerLog := func() string {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(i.Share), "logs", "handler.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const refusals = 6 // the table's, and the one that broke off
	i.until("a line for each refusal", func() bool { return strings.Count(handlerLog(), "delivery refused") >= refusals })
	if jobs, err := i.client.Jobs(i.ctx, client.JobFilter{}, 10); err != nil || len(jobs) != 0 {
		t.Errorf("got %v, %v", jobs, err)
	}

	for _, want := range []int{1, 0} { // the same again does nothing
		code, text, err := deliver(i.ctx, i.URL, hookSecret, pushOf("main", 1))
		var answer wire.PushAnswer
		if err != nil || code != http.StatusAccepted || json.Unmarshal(text, &answer) != nil || len(answer.Rules) != 1 ||
			len(answer.Rules[0].Jobs) != want {
			t.Fatalf("got %d %s, %v; want %d jobs", code, text, err, want)
		}
		i.killHandler()
	}
	jobs := i.jobs(1)
	if len(jobs) != 1 || jobs[0].State != job.Succeeded || len(jobs[0].Attempts) != 1 {
		t.Errorf("got %+v", jobs)
	}
	text := handlerLog()
	for _, private := range []string{hookSecret, statusToken, "guessed", "refs/heads/forged"} {
		if strings.Contains(text, private) {
			t.Errorf("the handler's log holds %q", private)
		}
	}
	if refused := strings.Count(text, "delivery refused"); refused != refusals {
		t.Errorf("%d deliveries were refused in the log, want %d:\n%s", refused, refusals, text)
	}
}

// breaksOff announces more of a delivery than it sends.
func (i *instance) breaksOff() {
	i.t.Helper()
	address, err := url.Parse(i.URL)
	if err != nil {
		i.t.Fatal(err)
	}
	c, err := net.Dial("tcp", address.Host)
	if err != nil {
		i.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /api/push/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nX-GitHub-Event: push\r\nX-Hub-Signature-256: sha256=%064x\r\n\r\n{\"ref\":\"refs/heads/forged\"", 1)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		i.t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		i.t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		i.t.Errorf("what broke off: got %q, %v; want a refusal", answer, err)
	}
}

// killHandler kills the instance's handler; the instance starts it again.
func (i *instance) killHandler() {
	i.t.Helper()
	killed := false
	for _, pid := range descendants(os.Getpid()) {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if strings.HasPrefix(string(args), os.Args[0]+"\x00handler\x00") && strings.Contains(string(env), "SHARE_PATH="+i.Share+"\x00") {
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil
		}
	}
	if !killed {
		i.t.Fatal("the handler was not found")
	}
	i.until("the handler's return", func() bool {
		_, err := i.client.Pools(i.ctx)
		return err == nil
	})
}

// Eighty pushes within a moment, to a pool of nothing: exactly their jobs, and the
// nodes in a few requests. DSVM_LONG=1 has instances take five seconds to boot.
func TestPushesToAnEmptyPool(t *testing.T) {
	t.Parallel()
	boot := time.Second
	if os.Getenv("DSVM_LONG") != "" {
		boot = 5 * time.Second
	}
	const pushes, most, requests = 80, 20, 4
	i := startInstance(t, pushSettings(), func(cfg *local.Config) { cfg.BootDelay = boot })
	i.apply(fmt.Sprintf(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":%d}}`, most))
	if _, err := i.client.ApplyRules(i.ctx, []byte(plainRule)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var all sync.WaitGroup
	for n := range pushes {
		all.Go(func() {
			if code, answer, err := deliver(i.ctx, i.URL, hookSecret, pushOf(fmt.Sprint("b", n%7), n+1)); err != nil ||
				code != http.StatusOK && code != http.StatusAccepted {
				t.Errorf("push %d: got %d %s, %v", n, code, answer, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d pushes were taken in %s", pushes, time.Since(began).Round(time.Millisecond))
	jobs := i.jobs(pushes)
	if len(jobs) != pushes {
		t.Errorf("got %d jobs, want %d", len(jobs), pushes)
	}
	for _, j := range jobs {
		if j.State != job.Succeeded || len(j.Attempts) != 1 {
			t.Errorf("job %s is %s after the attempts %+v", j.ID, j.State, j.Attempts)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.asked) > requests {
		t.Errorf("capacity was asked for %d times: %v; want at most %d", len(i.asked), i.asked, requests)
	}
	t.Logf("capacity was asked for as %v", i.asked)
}
