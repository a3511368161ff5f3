package cli

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"dsvmpools/shared/job"
)

// withoutFlag are the fields of a document that no flag of fieldFlags gives, and why.
var withoutFlag = map[string]string{
	"command":    "it is what follows the flags",
	"script":     "--script reads it from a file",
	"args":       "they are what follows the flags, beside --script",
	"rerunOf":    "it is no field of a document: job rerun gives it",
	"index":      "it is no field of a document: the platform gives it to the members of a sweep",
	"sweep.list": "--each-line makes it from the lines of a file",
}

// TestEveryFieldHasItsFlag: a field of the document that is added later gets a flag, or a
// reason here.
func TestEveryFieldHasItsFlag(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	var walk func(of reflect.Type, path string)
	walk = func(of reflect.Type, path string) {
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			below := f.Type
			if below.Kind() == reflect.Pointer {
				below = below.Elem()
			}
			if below.Kind() == reflect.Struct && below.PkgPath() == reflect.TypeFor[job.Spec]().PkgPath() {
				walk(below, path+name+".")
				continue
			}
			fields[path+name] = true
		}
	}
	walk(reflect.TypeFor[job.Spec](), "")
	given := map[string]bool{}
	for _, f := range fieldFlags {
		if given[f.field] = true; !fields[f.field] {
			t.Errorf("--%s gives %q, which is no field of a document", f.name, f.field)
		}
	}
	for field := range fields {
		if given[field] == (withoutFlag[field] != "") {
			t.Errorf("%q needs a flag in fieldFlags, or a reason in withoutFlag, and not both", field)
		}
	}
	for field := range withoutFlag {
		if !fields[field] {
			t.Errorf("%q is no field of a document any more", field)
		}
	}
}

// TestFlagsSetTheirFields: each flag changes its own field alone.
func TestFlagsSetTheirFields(t *testing.T) {
	t.Parallel()
	examples := map[flagKind]struct {
		argument string
		want     string
	}{
		textFlag:   {"=x", `"x"`},
		numberFlag: {"=3", `3`},
		switchFlag: {"", `true`},
		timeFlag:   {"=2026-03-02T13:00:00+01:00", `"2026-03-02T12:00:00Z"`},
		wordsFlag:  {"=a,b", `["a","b"]`},
		pairsFlag:  {"=K=v=w", `{"K":"v=w"}`},
		valuesFlag: {"=K=a,b", `{"K":["a","b"]}`},
	}
	for _, f := range fieldFlags {
		d := &document{fields: map[string]any{}}
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		registerFields(flags)
		if err := flags.Parse([]string{"--" + f.name + examples[f.kind].argument}); err != nil {
			t.Fatal(err)
		}
		if err := setFields(d, flags); err != nil {
			t.Fatal(err)
		}
		want := examples[f.kind].want
		path := strings.Split(f.field, ".")
		for i := len(path) - 1; i >= 0; i-- {
			want = `{"` + path[i] + `":` + want + `}`
		}
		if got, _ := json.Marshal(d.fields); string(got) != want {
			t.Errorf("--%s: got %s, want %s", f.name, got, want)
		}
	}
}

func TestFlagsRefuse(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"--env=A":                `--env is "A"; it takes NAME=VALUE`,
		"--secret==v":            `--secret takes NAME=keyvault:VAULT/SECRET, and never the secret itself`,
		"--grid=LR":              `--grid is "LR"; it takes NAME=VALUE,VALUE,...`,
		"--not-before=tomorrow":  `--not-before is "tomorrow"; it takes a time such as 2026-01-31T18:00:00Z`,
		"--not-before=":          `--not-before is ""; it takes a time such as 2026-01-31T18:00:00Z`,
		"--label=project":        `--label is "project"; it takes NAME=VALUE`,
		"--each-line=NAME=":      `--each-line is "NAME="; it takes FILE or NAME=FILE`,
		"--each-line=a.txt":      "a.txt",
		"--each-line=- -f -":     "only one of --file, --script and --each-line can be standard input",
		"--each-line=A=- -f -":   "only one of --file, --script and --each-line can be standard input",
		"--script=- --file=-":    "only one of --file, --script and --each-line can be standard input",
		"--each-line=x --count=": `--count is ""; it takes a whole number`,
	} {
		b := newBench(t)
		code, out, errs := b.run(append(append([]string{"job", "submit"}, strings.Fields(argument)...), "--", "true")...)
		if code != codeWrongUse || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: got %d %q %q, want %q", argument, code, out, errs, want)
		}
	}
}
