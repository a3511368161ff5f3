package dsvmpools

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"testing"
)

var functions = []string{"Api", "ApplyPool", "CommitStatus", "DrivePool", "GitPush", "Home", "NightlyScaleDown", "NodeReport", "Page", "Reconcile", "RecordUsage", "RefreshPrices", "SubmitJob", "WatchBudgets", "Web"}

// Each function has a folder with its bindings, and nothing else is embedded.
func TestFiles(t *testing.T) {
	t.Parallel()
	want := []string{"host.json"}
	for _, f := range functions {
		want = append(want, "functions/"+f+"/function.json")
	}
	var got []string
	err := fs.WalkDir(Files, ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got = append(got, path)
		}
		return err
	})
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// The example names every setting that a function.json asks for.
func TestExampleSettings(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("local.settings.json.example")
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ Values map[string]string }
	if err := json.Unmarshal(b, &example); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, name := range functions {
		b, err := Files.ReadFile("functions/" + name + "/function.json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Bindings []struct{ QueueName, Schedule, Connection string }
		}
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, binding := range file.Bindings {
			for _, text := range []string{binding.QueueName, binding.Schedule, "%" + binding.Connection + "%"} {
				if len(text) < 3 {
					continue
				}
				asked++
				if setting := text[1 : len(text)-1]; example.Values[setting] == "" {
					t.Errorf("%s asks for the setting %s, which the example does not have", name, setting)
				}
			}
		}
	}
	if asked < 11 { // a queue and a connection for each of four, and four schedules
		t.Errorf("only %d settings were found", asked)
	}
}
