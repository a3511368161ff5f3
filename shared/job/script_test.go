package job_test

import (
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

func TestScriptCommand(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"echo":                                 "bash|-l|F|x y",
		"# a comment\n#!/usr/bin/python3\n":    "bash|-l|F|x y",
		"#!\n":                                 "bash|-l|F|x y",
		"#!/bin/bash":                          "bash|-l|F|x y",
		"#! /usr/bin/env bash\n":               "bash|-l|F|x y",
		"#!/bin/sh -e\n":                       "bash|-l|-e|F|x y",
		"#!/usr/bin/env -S bash -eu -o p\n":    "bash|-l|-eu|-o|p|F|x y",
		"#!/usr/bin/env python3\nimport sys\n": `bash|-l|-c|exec "$@"|bash|/usr/bin/env|python3|F|x y`,
		"#!/usr/bin/python3 -u \n":             `bash|-l|-c|exec "$@"|bash|/usr/bin/python3|-u|F|x y`,
		"#!/usr/bin/env -S Rscript --vanilla":  `bash|-l|-c|exec "$@"|bash|/usr/bin/env|-S Rscript --vanilla|F|x y`,
		"#!/usr/bin/fish\n":                    `bash|-l|-c|exec "$@"|bash|/usr/bin/fish|F|x y`,
		"#!/usr/bin/env\n":                     `bash|-l|-c|exec "$@"|bash|/usr/bin/env|F|x y`,
	} {
		if got := job.ScriptCommand(script, "F", []string{"x y"}); !slices.Equal(got, strings.Split(want, "|")) {
			t.Errorf("%q: got %q, want %q", script, got, want)
		}
		if got, want := job.IsPlainScript(script, nil), strings.HasPrefix(want, "bash|-l|F"); got != want {
			t.Errorf("%q: plain: got %v", script, got)
		}
		if job.IsPlainScript(script, []string{"x"}) {
			t.Errorf("%q with arguments is plain", script)
		}
		if got := job.ScriptInterpreter(script); (got != "") != strings.Contains(want, "exec") || !strings.Contains(want, "|"+got) {
			t.Errorf("%q: the interpreter is %q", script, got)
		}
	}
}
