package main

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The package is the root that a Functions host wants: host.json, a folder for
// each function, and the executable with its mode.
func TestPackage(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	handler := filepath.Join(out, "built")
	if err := os.WriteFile(handler, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "package", "--out", out, "--handler", handler)
	got, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(got)) != filepath.Join(out, "app.zip") {
		t.Fatalf("got %q, %v", got, err)
	}
	z, err := zip.OpenReader(filepath.Join(out, "app.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	modes := map[string]os.FileMode{}
	for _, f := range z.File {
		modes[f.Name] = f.Mode()
	}
	for _, name := range []string{"host.json", "SubmitJob/function.json", "Api/function.json", "handler"} {
		if _, ok := modes[name]; !ok {
			t.Errorf("%s is missing; the archive has %v", name, modes)
		}
		if _, err := os.Stat(filepath.Join(out, "app", name)); err != nil {
			t.Error(err)
		}
	}
	if modes["handler"].Perm()&0o111 == 0 {
		t.Errorf("the handler's mode is %v", modes["handler"])
	}
}

// A handler that the host could not start is not packed.
func TestPackageRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	arm := make([]byte, 64) // the header of a program for another processor
	copy(arm, "\x7fELF\x02\x01\x01")
	arm[16], arm[18], arm[20], arm[52] = 2, 183, 1, 64
	for name, content := range map[string][]byte{"empty": nil, "mac": []byte("\xcf\xfa\xed\xfe program"), "arm": arm} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := startable(path); err == nil || !strings.Contains(err.Error(), "GOARCH=amd64") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for path, want := range map[string]bool{os.Args[0]: runtime.GOARCH == "amd64", dir: false, filepath.Join(dir, "missing"): false} {
		if err := startable(path); (err == nil) != want {
			t.Errorf("%s: got %v", path, err)
		}
	}
}
