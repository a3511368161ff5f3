package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/cmd/dsvm/cli"
)

// A script and a list of lines that are larger than a document reach the node as a folder, and
// the script finds its interpreter, its arguments, its exit code and its line there.
func TestLargeScriptAndLines(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`)
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var lines strings.Builder
	const members = 3
	for n := range members {
		fmt.Fprintf(&lines, "%d  it's \"$HOME\" \\ `date` ü %s\r\n\r\n", n, strings.Repeat(string(rune('a'+n)), 40<<10))
	}
	write("lines.txt", lines.String())
	pad := strings.Repeat("# "+strings.Repeat("x", 80)+"\n", 1000)
	write("large.sh", pad+`printf '<%s>' "$@" "${LINE-no line}"; exit 7`+"\n")
	write("large.awk", "#!/usr/bin/awk -f\n"+pad+`BEGIN { for (i = 1; i < ARGC; i++) printf "<%s>", ARGV[i]; exit 7 }`+"\n")
	run := func(args ...string) (code int, out, errs string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		p := &cli.Program{
			In:     strings.NewReader(""),
			Out:    &stdout,
			Err:    &stderr,
			Getenv: func(name string) string { return map[string]string{"DSVM_URL": i.URL, "DSVM_KEY": i.Key}[name] },
			Dir:    folder,
			Now:    time.Now,
			Zone:   time.UTC,
		}
		code = p.Main(i.ctx, args)
		return code, stdout.String(), stderr.String()
	}

	for script, want := range map[string]string{"large.sh": "<a  b><$c><no line>", "large.awk": "<a  b><$c>"} {
		code, out, errs := run("run", "--pool", "cpu", "--script", script, "--", "a  b", "$c")
		if code != 7 || out != want {
			t.Errorf("%s: got %d, %q, %q; want 7 and %q", script, code, out, errs, want)
		}
	}
	for id, job := range map[string][]string{
		"command": {"--", "sh", "-c", `printf '<%s>' "$@" "$LINE"; exit 7`, "sh", "a  b", "$c"},
		"script":  {"--script", "large.sh", "--", "a  b", "$c"},
	} {
		if code, _, errs := run(append([]string{"run", "--pool", "cpu", "--id", id, "--each-line", "lines.txt"}, job...)...); code != 7 {
			t.Errorf("the sweep %s: got %d, %q, want 7", id, code, errs)
		}
		for n := range members {
			want := fmt.Sprintf("<a  b><$c><%d  it's \"$HOME\" \\ `date` ü %s>", n, strings.Repeat(string(rune('a'+n)), 40<<10))
			code, out, errs := run("job", "logs", fmt.Sprintf("%s.%d", id, n))
			if code != 0 || out != want {
				t.Errorf("member %d of %s: got %d, %.60q of %d bytes, %q; want %.60q", n, id, code, out, len(out), errs, want)
			}
		}
	}
}
