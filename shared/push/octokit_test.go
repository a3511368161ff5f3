package push_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/push"
)

// What GitHub has sent, as the npm package @octokit/webhooks-examples has it:
// DSVM_PAYLOADS is its folder. `.ci/run` fetches it.
func TestPayloadsOfGitHub(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("DSVM_PAYLOADS")
	if dir == "" {
		t.Skip("DSVM_PAYLOADS does not name the folder of @octokit/webhooks-examples")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "index.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%s has %d files, %v", dir, len(files), err)
	}
	pushes, others := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var events []struct {
			Name     string
			Examples []json.RawMessage
		}
		if err := json.Unmarshal(text, &events); err != nil {
			t.Fatal(err)
		}
		for _, event := range events {
			for _, body := range event.Examples {
				d, err := push.Parse(push.GitHub, headers("X-GitHub-Event", event.Name, "X-GitHub-Delivery", "d1"), body)
				switch {
				case err != nil:
					t.Errorf("%s, %s: %v", file, event.Name, err)
				case event.Name != "push":
					if others++; len(d.Pushes) != 0 || d.Ignored == "" {
						t.Errorf("%s, %s: %d pushes and %q, want a reason for none", file, event.Name, len(d.Pushes), d.Ignored)
					}
				default:
					pushes++
					checkGitHub(t, body, d)
				}
			}
		}
	}
	if pushes < 9 || others < 300 {
		t.Errorf("%d pushes and %d other events were found", pushes, others)
	}
	t.Logf("%d pushes, %d other events", pushes, others)
}

// checkGitHub compares a push with what stands in its payload, read in the plainest
// way.
func checkGitHub(t *testing.T, body []byte, d push.Delivery) {
	t.Helper()
	var in struct {
		Ref, Before, After       string
		Created, Deleted, Forced bool
		Repository               map[string]any
		HeadCommit               map[string]any `json:"head_commit"`
	}
	var loose struct {
		Commits []struct{ Added, Modified, Removed []string }
	}
	if err := json.Unmarshal(body, &loose); err != nil {
		t.Fatal(err)
	}
	json.Unmarshal(body, &in)
	if len(d.Pushes) != 1 {
		t.Errorf("%d pushes in one payload", len(d.Pushes))
		return
	}
	p := d.Pushes[0]
	none := strings.Repeat("0", 40)
	commit := in.After
	if id, _ := in.HeadCommit["id"].(string); id != "" && !in.Deleted {
		commit = id
	}
	if p.Ref != in.Ref || p.Repository != in.Repository["full_name"] || p.CloneURL != in.Repository["clone_url"] ||
		p.Created != in.Created || p.Deleted != in.Deleted || p.Forced != in.Forced ||
		p.Before != strings.TrimPrefix(in.Before, none) || p.Commit != strings.TrimPrefix(commit, none) {
		t.Errorf("got %+v of %s", p, body)
	}
	var changed []string
	for _, c := range loose.Commits {
		changed = append(append(append(changed, c.Added...), c.Modified...), c.Removed...)
	}
	slices.Sort(changed)
	if changed = slices.Compact(changed); p.FilesKnown && !slices.Equal(p.Files, changed) {
		t.Errorf("got the files %q, want %q", p.Files, changed)
	}
}
