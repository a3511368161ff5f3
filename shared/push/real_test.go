package push_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-playground/webhooks/v6/azuredevops"
	"github.com/go-playground/webhooks/v6/bitbucket"
	"github.com/go-playground/webhooks/v6/gitea"
	"github.com/go-playground/webhooks/v6/github"
	"github.com/go-playground/webhooks/v6/gitlab"

	"dsvmpools/shared/push"
)

// module is where the payloads lie that the Git hosts have sent to the authors
// of a library for them.
var module = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-playground/webhooks/v6").Output()
	return strings.TrimSpace(string(out)), err
})

// recorded reads a payload of the library.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	dir, err := module()
	if err != nil {
		t.Fatalf("the payloads cannot be found: %v", err)
	}
	body, err := os.ReadFile(filepath.Join(dir, "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// changed is a payload with some of its fields changed, by path.
func changed(t testing.TB, body []byte, changes map[string]any) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	for path, v := range changes {
		put(t, doc, strings.Split(path, "."), v)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(t testing.TB, in any, path []string, v any) {
	t.Helper()
	switch at := in.(type) {
	case map[string]any:
		if len(path) == 1 {
			at[path[0]] = v
			return
		}
		put(t, at[path[0]], path[1:], v)
	case []any:
		put(t, at[0], path[1:], v) // every path goes through the first
	default:
		t.Fatalf("the payload has no %v", path)
	}
}

func headers(pairs ...string) push.Header {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if strings.EqualFold(pairs[i], name) {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// events are the headers of a push, for each provider.
var events = map[push.Provider]push.Header{
	push.GitHub:      headers("X-GitHub-Event", "push", "X-GitHub-Delivery", "d1"),
	push.Gitea:       headers("X-Gitea-Event", "push", "X-Gitea-Delivery", "d1"),
	push.GitLab:      headers("X-Gitlab-Event", "Push Hook", "X-Gitlab-Event-UUID", "d1"),
	push.Bitbucket:   headers("X-Event-Key", "repo:push", "X-Request-UUID", "d1"),
	push.AzureDevOps: headers(),
}

var payloads = map[push.Provider]string{
	push.GitHub: "github/push.json", push.Gitea: "gitea/push-event.json", push.GitLab: "gitlab/push-event.json",
	push.Bitbucket: "bitbucket/repo-push.json", push.AzureDevOps: "azuredevops/git.push.json",
}

func parse(t testing.TB, provider push.Provider, body []byte) []push.Push {
	t.Helper()
	d, err := push.Parse(provider, events[provider], body)
	if err != nil {
		t.Fatal(err)
	}
	return d.Pushes
}

func one(t testing.TB, provider push.Provider, body []byte) push.Push {
	t.Helper()
	pushes := parse(t, provider, body)
	if len(pushes) != 1 {
		t.Fatalf("got %d pushes, want 1", len(pushes))
	}
	return pushes[0]
}

// What is read of a payload is what the library of its type reads.
func TestAgreesWithLibrary(t *testing.T) {
	t.Parallel()
	decode := func(t *testing.T, provider push.Provider, into any) {
		t.Helper()
		if err := json.Unmarshal(recorded(t, payloads[provider]), into); err != nil {
			t.Fatal(err)
		}
	}
	for provider, want := range map[push.Provider]func(t *testing.T) push.Push{
		push.GitHub: func(t *testing.T) push.Push {
			var l github.PushPayload
			decode(t, push.GitHub, &l)
			return push.Push{Repository: l.Repository.FullName, CloneURL: l.Repository.CloneURL, Ref: l.Ref, Before: l.Before, Commit: l.After,
				Author: l.HeadCommit.Author.Username, Pusher: l.Pusher.Name, Message: l.HeadCommit.Message, Created: l.Created, Deleted: l.Deleted, Forced: l.Forced}
		},
		push.Gitea: func(t *testing.T) push.Push {
			var l gitea.PushPayload
			decode(t, push.Gitea, &l)
			return push.Push{Repository: l.Repo.FullName, CloneURL: l.Repo.CloneURL, Ref: l.Ref, Commit: l.After, // all zeros before
				Author: l.Commits[0].Author.Name, Pusher: l.Pusher.UserName, Message: l.Commits[0].Message, Created: true}
		},
		push.GitLab: func(t *testing.T) push.Push {
			var l gitlab.PushEventPayload
			decode(t, push.GitLab, &l)
			last := l.Commits[len(l.Commits)-1]
			return push.Push{Repository: l.Project.PathWithNamespace, CloneURL: l.Project.GitHTTPURL, Ref: l.Ref, Before: l.Before, Commit: l.CheckoutSHA,
				Author: last.Author.Name, Pusher: l.UserName, Message: last.Message}
		},
		push.Bitbucket: func(t *testing.T) push.Push {
			var l bitbucket.RepoPushPayload
			decode(t, push.Bitbucket, &l)
			c := l.Push.Changes[0]
			return push.Push{Repository: l.Repository.FullName, CloneURL: "https://bitbucket.org/" + l.Repository.FullName + ".git", Ref: "refs/heads/" + c.New.Name,
				Before: c.Old.Target.Hash, Commit: c.New.Target.Hash, Author: c.New.Target.Author.NickName, Pusher: l.Actor.NickName, Message: c.New.Target.Message, Forced: c.Forced}
		},
		push.AzureDevOps: func(t *testing.T) push.Push {
			var l azuredevops.GitPushEvent
			decode(t, push.AzureDevOps, &l)
			r := l.Resource
			return push.Push{Repository: "fabrikam-fiber-inc/" + r.Repository.Project.Name + "/" + r.Repository.Name, CloneURL: r.Repository.RemoteURL,
				Ref: r.RefUpdates[0].Name, Before: r.RefUpdates[0].OldObjectID, Commit: r.Commits[0].CommitID,
				Author: "Jamal Hartnett", Pusher: r.PushedBy.UniqueName, Message: "Fixed bug in web.config file"}
		},
	} {
		t.Run(string(provider), func(t *testing.T) {
			t.Parallel()
			got, want := one(t, provider, recorded(t, payloads[provider])), want(t)
			want.Provider, want.Branch = provider, strings.TrimPrefix(want.Ref, "refs/heads/")
			want.Files, want.FilesKnown, want.Unlisted, want.Delivery = got.Files, got.FilesKnown, got.Unlisted, got.Delivery
			g, _ := json.Marshal(got)
			w, _ := json.Marshal(want)
			if string(g) != string(w) {
				t.Errorf("got  %s\nwant %s", g, w)
			}
			if want := "d1"; provider != push.AzureDevOps && got.Delivery != want {
				t.Errorf("delivery: got %q, want %q", got.Delivery, want)
			}
		})
	}
}
