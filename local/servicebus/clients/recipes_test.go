//go:build unix

package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recipe is a section of docs/local.md: programs by the names of their files, and the
// commands that run them.
type recipe struct {
	name     string
	files    map[string]string
	commands string
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)(?: (\\S+))?\n(.*?)^```$")

// readRecipes reads the recipes from the page.
func readRecipes(t *testing.T) []recipe {
	t.Helper()
	page, err := os.ReadFile("../../../docs/local.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(page), "\n## Recipes\n")
	part, _, ended := strings.Cut(part, "\n## ")
	if !found || !ended {
		t.Fatal("docs/local.md has no section of recipes")
	}
	var all []recipe
	for _, section := range strings.Split(part, "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		r := recipe{name: name, files: map[string]string{}}
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			if block[2] != "" {
				r.files[block[2]] = block[3]
			} else if block[1] == "sh" {
				r.commands = block[3]
			}
		}
		if r.commands != "" {
			all = append(all, r)
		}
	}
	return all
}

// TestRecipesAreFound holds the form of the page, where no instance runs.
func TestRecipesAreFound(t *testing.T) {
	t.Parallel()
	var found []string
	for _, r := range readRecipes(t) {
		found = append(found, fmt.Sprint(r.name, len(r.files)))
	}
	if got, want := strings.Join(found, " "), "Python1 JavaScript1 Java1 Go1 az0 curl0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRecipes runs the recipes of docs/local.md against an instance with the pool `cpu`. The
// job that a recipe sends must succeed.
func TestRecipes(t *testing.T) {
	t.Parallel()
	instance := os.Getenv("DSVM_TEST_INSTANCE")
	if instance == "" {
		t.Skip("DSVM_TEST_INSTANCE names no folder in which `dsvm up` runs")
	}
	// What each recipe must say, beside the job that it sends.
	says := map[string][]string{
		"Python":     {"jobs: ", "tables: ['", "sets: ['dsvm-cpu"},
		"JavaScript": {"jobs: ", "table: ", "set: dsvm-cpu"},
		"Java":       {"jobs: ", "table: "},
		"Go":         {"jobs: ", "table: ", "set: dsvm-cpu"},
		"az":         {"dsvm-cpu", "Succeeded", "ProvisioningState/succeeded"},
		"curl":       {`{"TableName":"`},
	}
	for _, r := range readRecipes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			out := r.run(t, instance)
			for _, want := range says[r.name] {
				if !strings.Contains(out, want) {
					t.Errorf("got no %q in:\n%s", want, out)
				}
			}
			if r.name != "az" {
				awaitJob(t, instance, "recipe-"+strings.ToLower(r.name))
			}
		})
	}
}

// run runs a recipe in a folder that has what its reader has installed.
func (r recipe) run(t *testing.T, instance string) string {
	t.Helper()
	dir := t.TempDir()
	link := func(from, to string) {
		t.Helper()
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(instance, ".dsvm"), ".dsvm")
	link(filepath.Join(os.Getenv("DSVM_TEST_NODE"), "node_modules"), "node_modules")
	link(os.Getenv("DSVM_TEST_JAVA"), "lib")
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join("../../..", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range r.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", r.commands)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	cmd.Env = append(os.Environ(), "AZURE_CONFIG_DIR="+filepath.Join(dir, "azure"), "AZURE_CORE_COLLECT_TELEMETRY=false", "PATH="+strings.Join([]string{
		filepath.Dir(os.Getenv("DSVM_TEST_PYTHON")), filepath.Dir(os.Getenv("DSVM_TEST_AZ")), os.Getenv("PATH")}, string(os.PathListSeparator)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// awaitJob waits until a job has succeeded.
func awaitJob(t *testing.T, instance, id string) {
	t.Helper()
	var at struct{ URL, Key string }
	b, err := os.ReadFile(filepath.Join(instance, ".dsvm/instance.json"))
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	if err != nil {
		t.Fatal(err)
	}
	var state string
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if state, err = jobState(t, at.URL, at.Key, id); state == "succeeded" {
			return
		}
	}
	t.Errorf("job %s: got %q %v, want succeeded", id, state, err)
}

func jobState(t *testing.T, url, key, id string) (string, error) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/jobs/"+id, nil)
	if err != nil {
		return "", err
	}
	q.Header.Set("x-functions-key", key)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return "", errors.New(r.Status)
	}
	var j struct{ State string }
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	return j.State, err
}
