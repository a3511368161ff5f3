package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mistakes of newcomers: each answer says what is wrong and what is meant or where to look.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"jobs":                              "\"jobs\" is not a command of \"dsvm\"; did you mean \"job\"?",
		"frob":                              "\"frob\" is not a command of \"dsvm\"; `dsvm --help` lists them",
		"node show x":                       "\"show\" is not a command of \"dsvm node\"; `dsvm node --help` lists them",
		"pool ls":                           "\"ls\" is not a command of \"dsvm pool\"; did you mean \"list\"?",
		"help jobs":                         "\"jobs\" is not a command of \"dsvm\"; did you mean \"job\"?",
		"help job lst":                      "\"lst\" is not a command of \"dsvm job\"; did you mean \"list\"?",
		"completion elvish":                 "\"elvish\" is not a command of \"dsvm completion\"; `dsvm completion --help` lists them",
		"run --pool cpu --gpu 1 -- true":    "there is no flag --gpu; did you mean --gpus?",
		"job list --frob":                   "there is no flag --frob; `dsvm job list --help` shows how it is called",
		"job list -z":                       "there is no flag -z; `dsvm job list --help` shows how it is called",
		"job list --pool":                   "--pool needs a value; `dsvm job list --help` shows how it is called",
		"run --pool cpu --cpus four -- x":   "--cpus is \"four\"; it takes a whole number",
		"job wait x --timeout 5":            "--timeout is \"5\"; it takes a length of time, such as 90s, 15m, 2h or 1d",
		"run --pool cpu --script none.sh":   "there is no file \"none.sh\"",
		"run --pool cpu --script folder":    "\"folder\" is a folder, and not a file",
		"usage --from 2090-01-01":           "--from 2090-01-01 is still to come; name a time of the past",
		"job submit -f none.yaml --name n ": "there is no file \"none.yaml\"",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if err := os.Mkdir(filepath.Join(b.program.Dir, "folder"), 0o755); err != nil {
				t.Fatal(err)
			}
			code, out, errs := b.run(strings.Fields(args)...)
			if code != 2 || out != "" || !strings.HasPrefix(errs, "dsvm: "+want) {
				t.Errorf("got code %d, %q and\n%s\nwant 2 and\n%s", code, out, errs, want)
			}
		})
	}
	if code, out, _ := newBench(t).run("help", "job", "list"); code != 0 || !strings.Contains(out, "dsvm job list --pool cpu") {
		t.Errorf("help job list: got code %d and\n%s", code, out)
	}
}

// A shell offers files only where a file is meant.
func TestValuesOfFlagsAreNoFiles(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"run --env":                     ":4", // no files
		"run --retry-on":                "nodeLost",
		"usage --from":                  ":4",
		"run --script":                  ":0",  // files
		"run --sync":                    ":16", // folders
		"job submit --pool cpu --after": "first",
	} {
		_, out, _ := newBench(t).run(append(append([]string{"__complete"}, strings.Fields(args)...), "")...)
		if !strings.Contains(out, want) {
			t.Errorf("%s: got\n%s\nwant %s", args, out, want)
		}
	}
}
