package main

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
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
