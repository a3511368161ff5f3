package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts a file into the folder of the program.
func (b *bench) write(name, text string) {
	b.t.Helper()
	file := filepath.Join(b.program.Dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

// spec is the document of a job as the instance has it.
func (b *bench) spec(id string) string {
	b.t.Helper()
	j, err := b.app.Jobs.Job(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := json.Marshal(j.Spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func TestDirectives(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("job.yaml", "pool: gpu\nname: from the file\nteam: vision\nenv: {A: file, B: file}\n")
	b.write("train.sh", "#!/bin/bash\n# trains\n#DSVM --pool cpu --cpus 2\n#DSVMX --nodes 9\n\n"+
		"  #DSVM --timeout 2h --name 'from the script' --env B=script # why\n"+
		"#DSVM --env C=\"a b\" --env D=a\\ b --after-nothing\n")
	code, _, errs := b.run("job", "submit", "-f", "job.yaml", "--script", "train.sh")
	if want := "train.sh:7: there is no flag --after-nothing of a #DSVM line"; code != codeWrongUse || !strings.Contains(errs, want) {
		t.Errorf("got %d %q, want %q", code, errs, want)
	}
	b.write("train.sh", "#!/bin/bash\n# trains\n#DSVM --pool cpu --cpus 2\n#DSVMX --nodes 9\n\n"+
		"  #DSVM --timeout 2h --name 'from the script' --env B=script # why\n"+
		"#DSVM --env C=\"a b\" --env D=a\\ b\n"+
		"echo\n#DSVM --gpus 4\n")
	code, out, errs := b.run("job", "submit", "-f", "job.yaml", "--id", "x", "--cpus", "1", "--script", "train.sh")
	if code != 0 || out != "x\n" || errs != "" {
		t.Fatalf("got %d %q %q", code, out, errs)
	}
	got := b.spec("x")
	for _, want := range []string{`"pool":"cpu"`, `"name":"from the script"`, `"team":"vision"`, `"resources":{"cpus":1}`,
		`"env":{"A":"file","B":"script","C":"a b","D":"a b"}`, `"timeout":"2h"`} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestArgumentsOfAScript: the words after the flags are the script's, and a command or a
// script takes the place of the file's with its arguments.
func TestArgumentsOfAScript(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("job.yaml", "pool: cpu\nscript: echo\nargs: [x]\n")
	b.write("train.py", "#!/usr/bin/env python3\nprint()\n")
	const script = `"script":"#!/usr/bin/env python3\nprint()\n"`
	for id, c := range map[string]struct {
		args []string
		want string
		not  string
	}{
		"file":    {nil, `"script":"echo","args":["x"]`, "command"},
		"command": {[]string{"--", "true"}, `"command":["true"]`, "args"},
		"script":  {[]string{"--script", "train.py"}, script, "args"},
		"args":    {[]string{"--script", "train.py", "--", "--epochs", "3"}, script + `,"args":["--epochs","3"]`, "command"},
	} {
		if code, _, errs := b.run(append([]string{"job", "submit", "-f", "job.yaml", "--id", id}, c.args...)...); code != 0 {
			t.Fatalf("%s: got %d %q", id, code, errs)
		}
		if got := b.spec(id); !strings.Contains(got, c.want) || strings.Contains(got, `"`+c.not+`":`) {
			t.Errorf("%s: got %s, want %s and no %s", id, got, c.want, c.not)
		}
	}
}

func TestDirectivesRefuse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#DSVM --cpu 1":          "x.sh:1: there is no flag --cpu of a #DSVM line; did you mean --cpus?",
		"\n#\n#DSVM --cpus one":  `x.sh:3: --cpus is "one"; it takes a whole number`,
		"#DSVM --cpus":           "x.sh:1: --cpus needs a value",
		"#DSVM python3 train.py": `x.sh:1: a #DSVM line has flags alone, and "python3" is none`,
		"#DSVM --name 'a b":      "x.sh:1: the quote ' is not closed; close it",
		"#DSVM --name a \\":      "x.sh:1: the line ends with a backslash",
		"#DSVM --env A":          `x.sh:1: --env is "A"; it takes NAME=VALUE`,
		"#DSVM --script y.sh":    "x.sh:1: there is no flag --script of a #DSVM line",
		"#DSVM -f y.yaml":        "x.sh:1: a #DSVM line has no flags of one letter such as -f",
		"#DSVM --help":           "x.sh:1: --help is no flag of a #DSVM line",
	} {
		b := newBench(t)
		b.write("x.sh", text+"\n")
		if code, out, errs := b.run("job", "submit", "--pool", "cpu", "--script", "x.sh"); code != codeWrongUse || out != "" ||
			!strings.HasPrefix(errs, "dsvm: "+want) {
			t.Errorf("%q: got %d %q %q, want %q", text, code, out, errs, want)
		}
	}
}

func TestLineEndsOfScripts(t *testing.T) {
	t.Parallel()
	const mixed = "the line ends with a carriage return"
	for _, c := range []struct{ name, text, want, errs string }{
		{"Unix", "#!/bin/sh\necho\n", "#!/bin/sh\necho\n", ""},
		{"written on Windows", "\ufeff#!/bin/sh\r\necho\r\n", "#!/bin/sh\necho\n", ""},
		{"the same, without a last line end", "echo 1\r\necho 2", "echo 1\necho 2", ""},
		{"mixed, in a shell script", "#!/usr/bin/env bash\necho 1\r\necho\n", "", "x:2: " + mixed},
		{"mixed, without #!", "echo\r\necho\n", "", "x:1: " + mixed},
		{"mixed, and the #! line has it", "#!/usr/bin/env python3\r\nprint()\n", "", "x:1: " + mixed},
		{"mixed, where it may be meant", "#!/usr/bin/env -S python3 -u\nprint('''a\r\n''')\n", "#!/usr/bin/env -S python3 -u\nprint('''a\r\n''')\n", ""},
		{"a CR that ends no line", "printf 'a\rb'\n", "printf 'a\rb'\n", ""},
		{"UTF-16", "\xff\xfee\x00", "", "x is UTF-16"},
		{"no text", "\x7fELF\xff", "", "x is not a text in UTF-8"},
	} {
		got, err := cleanScript("x", []byte(c.text))
		if got != c.want || (err != nil) != (c.errs != "") || err != nil && !strings.HasPrefix(err.Error(), c.errs) {
			t.Errorf("%s: got %q, %v; want %q, %s", c.name, got, err, c.want, c.errs)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, seed := range []string{` --a 'b c' "d\"e" f\ g # h`, `'`, `\`, "a\tb", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words, err := splitWords(text)
		if err == nil && len(words) > len(text) {
			t.Errorf("%q has %d words", text, len(words))
		}
	})
}
