package push_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
)

const zeros = "0000000000000000000000000000000000000000"

// commits makes a list of commits as the hosts send it.
func commits(n int, last string, files func(i int) map[string]any) []any {
	var all []any
	for i := range n {
		id := fmt.Sprintf("%040x", i+1)
		if i == n-1 {
			id = last
		}
		c := map[string]any{"id": id, "message": fmt.Sprint("commit ", i), "author": map[string]any{"name": "Ann", "username": "ann"}}
		for k, v := range files(i) {
			c[k] = v
		}
		all = append(all, c)
	}
	return all
}

func modified(i int) map[string]any {
	return map[string]any{"modified": []any{fmt.Sprintf("f%d", i)}}
}

// Every kind of push there is, each made of a payload that a host has sent: where
// none of the kind has been published, the fields that make it one are changed.
// The largest of all is in TestLargest; TestPayloadsOfGitHub reads what GitHub publishes.
func TestKinds(t *testing.T) {
	t.Parallel()
	const head = "fd489864e7642b48eaad6e3f155c10e46810ec72" // of github/push.json
	const lab = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"  // of gitlab/push-event.json
	const tea = "67b56589a45103f891bdee7c0546e5d40bc02001"  // of gitea/push-event.json
	for name, test := range map[string]struct {
		provider push.Provider
		file     string // "" = the provider's push
		header   push.Header
		changes  map[string]any
		check    func(p push.Push) bool
		files    []string // nil = not known
	}{
		"github: a push": {provider: push.GitHub, files: []string{".razorops.yaml", "app/controllers/application_controller.rb"},
			check: func(p push.Push) bool { return p.Branch == "master" && p.Commit == head }},
		"github: force": {provider: push.GitHub, changes: map[string]any{"forced": true},
			check: func(p push.Push) bool { return p.Forced && strings.Contains(p.Unlisted, "forced") }},
		"github: new branch": {provider: push.GitHub, changes: map[string]any{"created": true, "before": zeros},
			check: func(p push.Push) bool { return p.Created && p.Before == "" && strings.Contains(p.Unlisted, "new") }},
		"github: new branch without commits of its own": {provider: push.GitHub, changes: map[string]any{"created": true, "before": zeros, "commits": []any{}},
			check: func(p push.Push) bool { return p.Created && p.Commit == head && p.Message == "test a push event" }},
		"github: back to an older commit": {provider: push.GitHub, changes: map[string]any{"forced": true, "commits": []any{}},
			check: func(p push.Push) bool { return p.Commit == head }},
		"github: deleted branch": {provider: push.GitHub, changes: map[string]any{"deleted": true, "after": zeros, "head_commit": nil, "commits": []any{}},
			check: func(p push.Push) bool { return p.Deleted && p.Commit == "" }},
		"github: annotated tag": {provider: push.GitHub, changes: map[string]any{"ref": "refs/tags/v1.2", "after": strings.Repeat("7", 40), "before": zeros, "created": true},
			check: func(p push.Push) bool { return p.Tag == "v1.2" && p.Branch == "" && p.Commit == head }},
		"github: 2,000 commits": {provider: push.GitHub, changes: map[string]any{"commits": commits(2000, head, modified)},
			check: func(p push.Push) bool { return p.FilesKnown && len(p.Files) == 2000 }, files: []string{}},
		"github: more than are listed": {provider: push.GitHub, changes: map[string]any{"commits": commits(2048, head, modified)},
			check: func(p push.Push) bool { return strings.Contains(p.Unlisted, "more commits") }},
		"github: more than an older server lists": {provider: push.GitHub, changes: map[string]any{"commits": commits(20, head, modified)},
			check: func(p push.Push) bool { return strings.Contains(p.Unlisted, "more commits") }},
		"github: list without its head": {provider: push.GitHub, changes: map[string]any{"commits": commits(3, strings.Repeat("1", 40), modified)},
			check: func(p push.Push) bool { return p.Commit == head }},
		"github: merge": {provider: push.GitHub, changes: map[string]any{"commits": commits(3, head, func(i int) map[string]any {
			if i == 2 { // the merge itself changes nothing
				return map[string]any{"added": []any{}, "modified": []any{}, "removed": []any{}}
			}
			return modified(i)
		})}, check: func(p push.Push) bool { return p.Commit == head }, files: []string{"f0", "f1"}},
		"github: rename": {provider: push.GitHub, changes: map[string]any{"commits": commits(1, head, func(int) map[string]any {
			return map[string]any{"added": []any{"new.py"}, "removed": []any{"old.py"}}
		})}, check: func(p push.Push) bool { return true }, files: []string{"new.py", "old.py"}},
		"github: names outside of ASCII": {provider: push.GitHub, changes: map[string]any{"ref": "refs/heads/größe/日本", "commits": commits(1, head, func(int) map[string]any {
			return map[string]any{"added": []any{"café.txt", "模型/train.py"}}
		})}, check: func(p push.Push) bool { return p.Branch == "größe/日本" }, files: []string{"café.txt", "模型/train.py"}},
		"github: other ref": {provider: push.GitHub, changes: map[string]any{"ref": "refs/notes/commits"},
			check: func(p push.Push) bool { return p.Branch == "" && p.Tag == "" }, files: []string{}},
		"github: SHA-256": {provider: push.GitHub, changes: map[string]any{"after": strings.Repeat("a", 64), "before": strings.Repeat("b", 64), "head_commit.id": strings.Repeat("a", 64)},
			check: func(p push.Push) bool { return len(p.Commit) == 64 }},
		"gitlab: part of the commits": {provider: push.GitLab,
			check: func(p push.Push) bool {
				return p.Commit == lab && p.Message == "fixed readme" && strings.Contains(p.Unlisted, "more commits")
			}},
		"gitlab: all of the commits": {provider: push.GitLab, changes: map[string]any{"total_commits_count": 2},
			check: func(p push.Push) bool { return p.Author == "GitLab dev user" }, files: []string{"CHANGELOG", "app/controller/application.rb"}},
		"gitlab: 2,000 commits": {provider: push.GitLab, changes: map[string]any{"total_commits_count": 2000, "commits": commits(20, lab, modified)},
			check: func(p push.Push) bool { return p.Author == "ann" }},
		"gitlab: tag": {provider: push.GitLab, file: "gitlab/tag-event.json", header: headers("X-Gitlab-Event", "Tag Push Hook"),
			check: func(p push.Push) bool {
				return p.Tag == "v1.0.0" && p.Commit == "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7" && p.Pusher == "John Smith"
			}},
		"gitlab: deleted branch": {provider: push.GitLab, changes: map[string]any{"after": zeros, "checkout_sha": nil, "commits": []any{}, "total_commits_count": 0},
			check: func(p push.Push) bool { return p.Deleted && p.Commit == "" }},
		"gitlab: empty push": {provider: push.GitLab, changes: map[string]any{"commits": []any{}, "total_commits_count": 0},
			check: func(p push.Push) bool { return p.Author == "John Smith" && p.Message == "" }},
		"gitlab: force": {provider: push.GitLab, changes: map[string]any{"before": strings.Repeat("9", 40), "total_commits_count": 2}, // says nothing of it
			check: func(p push.Push) bool { return !p.Forced }, files: []string{"CHANGELOG", "app/controller/application.rb"}},
		"gitea: first push": {provider: push.Gitea,
			check: func(p push.Push) bool { return p.Created && p.Commit == tea && p.Author == "example" }},
		"gitea: quoted names": {provider: push.Gitea, changes: map[string]any{"before": strings.Repeat("9", 40), "total_commits": 1, "commits": commits(1, tea, func(int) map[string]any {
			return map[string]any{"added": []any{`"caf\303\251.txt"`, `"tab\there"`, `"not git's"x"`}}
		})}, check: func(p push.Push) bool { return true }, files: []string{`"not git's"x"`, "café.txt", "tab\there"}},
		"gitea: 2,000 commits": {provider: push.Gitea, changes: map[string]any{"before": strings.Repeat("9", 40), "total_commits": 2000},
			check: func(p push.Push) bool { return strings.Contains(p.Unlisted, "more commits") }},
		"forgejo": {provider: push.Gitea, header: headers("X-Forgejo-Event", "push", "X-Forgejo-Delivery", "f1"),
			check: func(p push.Push) bool { return p.Delivery == "f1" }},
		"bitbucket: a push": {provider: push.Bitbucket,
			check: func(p push.Push) bool { return p.Branch == "name-of-branch" && p.Author == "emmap1" }},
		"bitbucket: new tag": {provider: push.Bitbucket, changes: map[string]any{"push.changes.0.old": nil, "push.changes.0.new.type": "tag"},
			check: func(p push.Push) bool { return p.Tag == "name-of-branch" && p.Created }},
		"bitbucket: deleted branch": {provider: push.Bitbucket, changes: map[string]any{"push.changes.0.new": nil},
			check: func(p push.Push) bool { return p.Deleted && p.Branch == "name-of-branch" }},
		"bitbucket: force": {provider: push.Bitbucket, changes: map[string]any{"push.changes.0.forced": true},
			check: func(p push.Push) bool { return p.Forced }},
		"azure: a push": {provider: push.AzureDevOps,
			check: func(p push.Push) bool { return p.Branch == "main" && p.Delivery != "" }},
		"azure: deleted branch": {provider: push.AzureDevOps, changes: map[string]any{"resource.refUpdates.0.newObjectId": zeros, "resource.commits": nil},
			check: func(p push.Push) bool { return p.Deleted }},
		"azure: empty push of a new branch": {provider: push.AzureDevOps, changes: map[string]any{"resource.refUpdates.0.oldObjectId": zeros, "resource.commits": nil},
			check: func(p push.Push) bool { return p.Created && p.Author == "Jamal Hartnett" }},
		"azure: user in the address": {provider: push.AzureDevOps, changes: map[string]any{"resource.repository.remoteUrl": "https://org@dev.azure.com/org/My Project/_git/repo"},
			check: func(p push.Push) bool {
				return p.CloneURL == "https://dev.azure.com/org/My%20Project/_git/repo" && strings.HasPrefix(p.Repository, "org/")
			}},
		"azure: old address": {provider: push.AzureDevOps, changes: map[string]any{"resource.repository.remoteUrl": "https://org.visualstudio.com/My/_git/repo"},
			check: func(p push.Push) bool { return strings.HasPrefix(p.Repository, "org/") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, header := test.file, test.header
			if file == "" {
				file = payloads[test.provider]
			}
			if header == nil {
				header = events[test.provider]
			}
			d, err := push.Parse(test.provider, header, changed(t, recorded(t, file), test.changes))
			if err != nil || len(d.Pushes) != 1 {
				t.Fatalf("got %d pushes, %v; want 1", len(d.Pushes), err)
			}
			p := d.Pushes[0]
			if !test.check(p) {
				t.Errorf("got %+v", p)
			}
			if p.FilesKnown != (test.files != nil) || p.FilesKnown == (p.Unlisted != "") && !p.Deleted {
				t.Errorf("files: known %v (%s), want %v", p.FilesKnown, p.Unlisted, test.files != nil)
			}
			if len(test.files) > 0 && !slices.Equal(p.Files, test.files) {
				t.Errorf("files: got %q, want %q", p.Files, test.files)
			}
		})
	}
}

func TestSeveralRefs(t *testing.T) {
	t.Parallel()
	body := changed(t, recorded(t, payloads[push.AzureDevOps]), map[string]any{"resource.refUpdates": []any{
		map[string]any{"name": "refs/heads/a", "oldObjectId": zeros, "newObjectId": strings.Repeat("1", 40)},
		map[string]any{"name": "refs/tags/b", "oldObjectId": zeros, "newObjectId": strings.Repeat("2", 40)},
	}})
	got := parse(t, push.AzureDevOps, body)
	if len(got) != 2 || got[0].Branch != "a" || got[1].Tag != "b" {
		t.Errorf("got %+v", got)
	}
}

func TestNoPush(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		provider push.Provider
		header   push.Header
		file     string
		want     string
	}{
		"github ping":    {push.GitHub, headers("X-GitHub-Event", "ping"), "github/ping.json", "ping"},
		"github issue":   {push.GitHub, headers("X-GitHub-Event", "issues"), "github/issues.json", "issues is ignored"},
		"github nothing": {push.GitHub, headers(), "github/push.json", "ignored"},
		"gitlab issue":   {push.GitLab, headers("X-Gitlab-Event", "Issue Hook"), "gitlab/issue-event.json", "Issue Hook is ignored"},
		"gitea create":   {push.Gitea, headers("X-Gitea-Event", "create"), "gitea/create-event.json", "create is ignored"},
		"bitbucket fork": {push.Bitbucket, headers("X-Event-Key", "repo:fork"), "bitbucket/repo-fork.json", "ignored"},
		"azure build":    {push.AzureDevOps, headers(), "azuredevops/build.complete.json", "build.complete is ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := push.Parse(test.provider, test.header, recorded(t, test.file))
			if err != nil || len(d.Pushes) > 0 || !strings.Contains(d.Ignored, test.want) {
				t.Errorf("got %+v, %v; want %q", d, err, test.want)
			}
		})
	}
}

func TestRefusedPayloads(t *testing.T) {
	t.Parallel()
	whole := recorded(t, "github/push.json")
	for name, test := range map[string]struct {
		body []byte
		want string
	}{
		"cut off":         {whole[:len(whole)/2], "cut off"},
		"empty":           {nil, "cut off"},
		"no object":       {[]byte(`"push"`), "not the JSON"},
		"no ref":          {changed(t, whole, map[string]any{"ref": ""}), "the ref"},
		"long ref":        {changed(t, whole, map[string]any{"ref": "refs/heads/" + strings.Repeat("x", 600)}), "the ref"},
		"ref of two":      {changed(t, whole, map[string]any{"ref": "refs/heads/a\nb"}), "the ref"},
		"no commit":       {changed(t, whole, map[string]any{"head_commit.id": "HEAD"}), "commit"},
		"option as id":    {changed(t, whole, map[string]any{"head_commit.id": "--upload-pack=x"}), "commit"},
		"no repository":   {changed(t, whole, map[string]any{"repository.full_name": ""}), "repository's name"},
		"ssh address":     {changed(t, whole, map[string]any{"repository.clone_url": "ext::sh -c x"}), "address"},
		"user in address": {changed(t, whole, map[string]any{"repository.clone_url": "https://a:b@github.com/x"}), "address"},
		"file address":    {changed(t, whole, map[string]any{"repository.clone_url": "file:///etc"}), "address"},
		"a thousand refs": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, body := push.GitHub, test.body
			if name == "a thousand refs" {
				provider, body = push.AzureDevOps, changed(
					t,
					recorded(t, payloads[push.AzureDevOps]),
					map[string]any{"resource.refUpdates": make([]struct{}, 1000)},
				)
			}
			_, err := push.Parse(provider, events[provider], body)
			if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
	if _, err := push.Parse(push.GitHub, headers("Content-Type", "application/x-www-form-urlencoded", "X-GitHub-Event", "push"), []byte("payload=%7B")); err == nil || !strings.Contains(err.Error(), "application/json") {
		t.Errorf("a form: got %v", err)
	}
	if _, err := push.Parse("svn", headers(), nil); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("an unknown provider: got %v", err)
	}
}

// What people write is cut and cleaned, whatever they write.
func TestShortened(t *testing.T) {
	t.Parallel()
	p := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), map[string]any{
		"head_commit.message": strings.Repeat("ä", 5000) + "\x00", "head_commit.author.username": "a\x1b[2J\nb" + strings.Repeat("c", 500),
	}))
	if len(p.Message) > 2000 || !strings.HasSuffix(p.Message, "ä") || strings.ContainsAny(p.Author, "\x1b\n") || len(p.Author) > 200 {
		t.Errorf("got author %q, message of %d bytes", p.Author, len(p.Message))
	}
}
