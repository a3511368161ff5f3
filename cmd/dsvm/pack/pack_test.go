package pack

import (
	"archive/zip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"dsvmpools"
	"dsvmpools/infra"
)

// program is the header of a program for Linux, with the number of a processor.
func program(machine byte) []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18], b[20], b[52] = 2, machine, 1, 64
	return b
}

const x86, arm = 62, 183

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The package is the root that a Functions host wants: host.json, a folder for each
// function, and the executable with its mode, whatever mode it had here. Made again, it is
// the same, byte by byte.
func TestBuild(t *testing.T) {
	t.Parallel()
	o := Options{Out: t.TempDir(), Handler: write(t, "h", program(x86)), Agent: write(t, "a", program(x86))}
	p, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(filepath.Join(o.Out, AppZip))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	modes := map[string]os.FileMode{}
	for _, f := range z.File {
		modes[f.Name] = f.Mode()
	}
	for name, want := range map[string]os.FileMode{"host.json": 0o644, "SubmitJob/function.json": 0o644, "Api/function.json": 0o644, "handler": 0o755} {
		if got, ok := modes[name]; !ok || got.Perm() != want {
			t.Errorf("%s: got mode %v, want %v; the archive has %v", name, got, want, modes)
		}
		if _, err := os.Stat(filepath.Join(o.Out, AppFolder, name)); err != nil {
			t.Error(err)
		}
	}
	if want := "devel-" + sum(program(x86))[:8]; p.Agent.Version != want || p.Version != want {
		t.Errorf("got the versions %s and %s, want %s", p.Version, p.Agent.Version, want)
	}
	var noted Package
	text, _ := os.ReadFile(filepath.Join(o.Out, VersionFile))
	if err := json.Unmarshal(text, &noted); err != nil || noted.Agent.SHA256 != p.Agent.SHA256 || noted.App.SHA256 != p.App.SHA256 {
		t.Errorf("got %s, %v", text, err)
	}
	again, err := Build(t.Context(), o)
	if err != nil || again != p {
		t.Errorf("made again: got %v, %v, want %v", again, err, p)
	}
	opened, err := Open(filepath.Join(o.Out, AppZip), filepath.Join(o.Out, AgentFile))
	if err != nil || opened != p {
		t.Errorf("opened: got %v, %v, want %v", opened, err, p)
	}
	o.Handler = write(t, "h2", append(program(x86), 1))
	if changed, err := Build(t.Context(), o); err != nil || changed.App.SHA256 == p.App.SHA256 || changed.Agent != p.Agent {
		t.Errorf("made again with another handler: got %v, %v", changed, err)
	}
	if err := os.WriteFile(filepath.Join(o.Out, AgentFile), append(program(x86), 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(o.Out, AppZip), filepath.Join(o.Out, AgentFile)); err == nil || !strings.Contains(err.Error(), "SHA256SUMS") {
		t.Errorf("another agent than in the checksums: got %v", err)
	}
}

// A program that could not run is not packed.
func TestBuildRefusesPrograms(t *testing.T) {
	t.Parallel()
	good := write(t, "good", program(x86))
	dynamic := program(x86)
	dynamic[32], dynamic[54], dynamic[56] = 64, 56, 1
	dynamic = append(dynamic, make([]byte, 56)...)
	dynamic[64] = 3 // PT_INTERP
	for name, content := range map[string][]byte{
		"empty": nil, "mac": []byte("\xcf\xfa\xed\xfe program"), "arm": program(arm), "script": []byte("#!/bin/sh\n"),
	} {
		bad := write(t, name, content)
		for _, o := range []Options{{Handler: bad, Agent: good}, {Handler: good, Agent: bad}} {
			o.Out = t.TempDir()
			if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "GOARCH=amd64") {
				t.Errorf("%s: got %v", name, err)
			}
			if _, err := os.Stat(filepath.Join(o.Out, AppZip)); err == nil {
				t.Errorf("%s: an archive was left", name)
			}
		}
	}
	needsLibraries := write(t, "dynamic", dynamic)
	if _, err := Build(t.Context(), Options{Out: t.TempDir(), Handler: good, Agent: needsLibraries}); err == nil || !strings.Contains(err.Error(), "libraries") {
		t.Errorf("an agent that needs libraries: got %v", err)
	}
}

// own is the app as the repository has it, with a handler.
func own(t *testing.T) fstest.MapFS {
	t.Helper()
	root := t.TempDir()
	if err := dsvmpools.Layout(root); err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{handlerName: {Data: program(x86), Mode: 0o755}}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/function.json"
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return files
}

// An app that the host would hang on, or serve in part only, is refused with the reason.
func TestCheckAppRefuses(t *testing.T) {
	t.Parallel()
	if err := CheckApp(own(t)); err != nil {
		t.Fatalf("the app as it is: %v", err)
	}
	replace := func(file, from, to string) func(fstest.MapFS) {
		return func(app fstest.MapFS) {
			if !strings.Contains(string(app[file].Data), from) {
				t.Fatalf("%s has no %s", file, from)
			}
			app[file].Data = []byte(strings.Replace(string(app[file].Data), from, to, 1))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(fstest.MapFS)
		want   string
	}{
		{"no handler", func(app fstest.MapFS) { delete(app, handlerName) }, "handler: it is missing"},
		{"no x bit", func(app fstest.MapFS) { app[handlerName].Mode = 0o644 }, "no x bit"},
		{"another processor", func(app fstest.MapFS) { app[handlerName].Data = program(arm) }, "x86-64"},
		{"a setting of nobody", replace("SubmitJob/function.json", "%JOBS_QUEUE%", "%JOB_QUEUE%"), "the template does not set JOB_QUEUE"},
		{"a connection of nobody", replace("SubmitJob/function.json", "ServiceBusConnection", "Bus"), "the template does not set Bus"},
		{"two functions", replace("GitPush/function.json", "api/push/{provider}", "api/{provider}"), "functions Api and GitPush fit one request"},
		{"host.json", replace("host.json", `"2.0"`, `"1.0"`), "host.json"},
	} {
		app := own(t)
		tt.change(app)
		if err := CheckApp(app); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// The settings are those of the app, with the values that are known.
func TestTemplateSettings(t *testing.T) {
	t.Parallel()
	settings, err := templateSettings(infra.Template)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"JOBS_QUEUE": "jobs", "RECONCILE_SCHEDULE": "0 * * * * *", "DSVM_SUBNET_ID": "set", "AZURE_CLIENT_ID": "set",
		"ServiceBusConnection__fullyQualifiedNamespace": "set",
	} {
		if settings[name] != want {
			t.Errorf("%s: got %q, want %q; all are %v", name, settings[name], want, settings)
		}
	}
}
