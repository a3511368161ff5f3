package cli

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestLargeParts: a script or lines that are larger than a document are run by bash as they
// would be in a document.
func TestLargeParts(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("runs bash")
	}
	long := "# " + strings.Repeat("x", 40<<10) + "\n"
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("a 'b' $HOME %d", i))
	}
	const line = "a 'b' $HOME 4321\n"
	for _, c := range []struct {
		name   string
		script string
		each   bool
		args   []string
		want   string
	}{
		{"a script of bash", "#!/bin/bash\n" + long + "shopt -q login_shell && echo \"$0|$#|$2\"\n", false, []string{"x", "a 'b' $y"}, "/my.sh|2|a 'b' $y\n"},
		{"a script of awk", "#!/usr/bin/env -S awk -f\n" + long + "BEGIN { print ARGV[1] }\n", false, []string{"it's"}, "it's\n"},
		{"lines and a command", "", true, []string{"sh", "-c", `echo "$LINE"`}, line},
		{"lines and a small script", "echo \"$LINE\"\n", true, nil, line},
		{"lines and a large script", long + "echo \"$LINE\"\n", true, nil, line},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := &document{fields: map[string]any{"pool": "cpu"}}
			if c.script != "" {
				d.fields["script"], d.script = c.script, "my.sh"
				if c.args != nil {
					d.fields["args"] = c.args
				}
			} else {
				d.fields["command"] = c.args
			}
			if c.each {
				d.variable, d.lines = "LINE", lines
				d.set([]any{strings.Join(lines, "")}, "sweep", "list") // as large as the real one
			}
			if err := d.moveLargeParts(); err != nil {
				t.Fatal(err)
			}
			if large, err := d.isLarge(); large || err != nil || d.fields["script"] != nil || d.fields["args"] != nil {
				t.Fatalf("it is large: %v, %v", large, err)
			}
			folder := t.TempDir()
			for name, text := range d.files {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			command, _ := d.fields["command"].([]string)
			run := exec.CommandContext(t.Context(), command[0], command[1:]...)
			run.Env = append(os.Environ(), "DSVM_SOURCE="+folder, "DSVM_INDEX=4321")
			out, err := run.CombinedOutput()
			if got := strings.TrimPrefix(string(out), folder); err != nil || got != c.want {
				t.Errorf("%q: got %q, %v; want %q", command, got, err, c.want)
			}
			if sweep, _ := d.fields["sweep"].(map[string]any); c.each && (sweep["count"] != 5000 || sweep["list"] != nil) {
				t.Errorf("the sweep is %v", sweep)
			}
		})
	}
}

// TestLargePartsAreSent: the folder is there before the job is, and a dry run names it and
// sends nothing.
func TestLargePartsAreSent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("big.sh", "#!/bin/sh\n#DSVM --pool cpu\n#"+strings.Repeat("x", 40<<10)+"\n")
	b.write("lines.txt", strings.Repeat("line\n", 10000))
	isSent := func(spec string) bool {
		_, name, _ := strings.Cut(spec, "tree:sha256:")
		found := false
		err := filepath.WalkDir(b.app.Share, func(path string, _ fs.DirEntry, err error) error {
			found = found || len(name) > 64 && strings.Contains(filepath.Base(path), name[2:64])
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return found
	}
	code, dry, errs := b.run("job", "submit", "--script", "big.sh", "--dry-run")
	if code != 0 || !strings.Contains(dry, "\nsource:\n  tree: tree:sha256:") || isSent(dry) {
		t.Errorf("a dry run: got %d %q %q", code, dry, errs)
	}
	for id, args := range map[string]string{
		"script": "--script big.sh",
		"lines":  "--pool cpu --each-line FILE=lines.txt -- true",
	} {
		code, out, errs := b.run(strings.Fields("job submit --id " + id + " " + args)...)
		if code != 0 || out != id+"\n" {
			t.Fatalf("%s: got %d %q %q", id, code, out, errs)
		}
		if spec := b.spec(id); !isSent(spec) {
			t.Errorf("%s: the folder of %s is not there", id, spec)
		}
	}
	b.write("two.yaml", "pool: cpu\nid: one\nscript: |\n  #"+strings.Repeat("x", 40<<10)+"\n---\npool: cpu\nid: two\ncommand: [a]\n")
	if code, out, errs := b.run("job", "submit", "-f", "two.yaml"); code != 0 || out != "one\ntwo\n" || !isSent(b.spec("one")) {
		t.Errorf("of a file with several: got %d %q %q", code, out, errs)
	}
}

func TestLargePartsRefuse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("big.sh", "#"+strings.Repeat("x", 40<<10)+"\n")
	b.write("lines.txt", strings.Repeat("line\n", 10000))
	for args, want := range map[string]string{
		"--script big.sh --sync .":                                        "put its script and its lines into that folder",
		"--script big.sh --workdir a":                                     "leave `workdir` out",
		"--script big.sh --source https://h/x --commit 1":                 "and a `source` as well",
		"--each-line A-B=lines.txt -- true":                               `--each-line names the variable "A-B"`,
		"--each-line lines.txt --env LINE=1 -- true":                      "--each-line and `env` both set LINE",
		"--script big.sh -- " + strings.Repeat("x", 40<<10):               "more than 32 KiB beside its script and its lines",
		"--each-line lines.txt -- sh " + strings.Repeat("x ", 20<<10)[2:]: "more than 32 KiB beside its script and its lines",
	} {
		code, out, errs := b.run(strings.Fields("job submit --pool cpu " + args)...)
		if code != codeWrongUse || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%.60s: got %d %q %.200q, want %q", args, code, out, errs, want)
		}
	}
}
