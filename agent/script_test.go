//go:build unix

package agent

import (
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

// TestScripts: the first line of a script says who reads it, and its arguments reach it.
func TestScripts(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.CPUs = 8
	n := launched(t, cfg, newBus(t))
	const ok, failed = job.AttemptSucceeded, job.AttemptFailed
	tests := []struct {
		name, script string
		state        job.AttemptState
		says, prints string
	}{
		{"no line", "shopt -q login_shell && echo \"$#:$1:$2\"", ok, "", "2:a b:$HOME\n"},
		{"sh", "#!/bin/sh\nshopt -q login_shell && echo \"$#:$1:$2\"", ok, "", "2:a b:$HOME\n"},
		{"bash with options", "#!/bin/bash -e\nfalse\necho no", failed, "exit code 1", ""},
		{"bash by env, with options", "#!/usr/bin/env -S bash -eu\necho $NOTHING\necho no", failed, "exit code 1", ""},
		{"awk", "#!/usr/bin/env -S awk -f\nBEGIN { print ARGC - 1 \":\" ARGV[1] \":\" ARGV[2] }", ok, "", "2:a b:$HOME\n"},
		{"one argument, as a kernel takes it", "#! /usr/bin/env -S sed -n -e 2p -e 2q\nx", ok, "", "x\n"},
		{"no such interpreter", "#!/opt/none/Rscript --vanilla\n1", job.AttemptStartFailed, `the program "/opt/none/Rscript" does not exist`, ""},
	}
	for i, test := range tests {
		item := script(int64(i+1), test.script)
		item.Assign.Args = []string{"a b", "$HOME"}
		n.work(item)
	}
	for i, test := range tests {
		id := int64(i + 1)
		f := n.finished(id)
		if f.State != string(test.state) || !strings.Contains(f.Reason, test.says) {
			t.Errorf("%s: got %+v, want %s, %q; %s", test.name, f, test.state, test.says, n.file(id, "stderr.log"))
			continue
		}
		if test.state == job.AttemptStartFailed {
			if f.Cause != job.CauseNoProgram {
				t.Errorf("%s: the cause is %q", test.name, f.Cause)
			}
			continue
		}
		if got := n.file(id, "stdout.log"); got != test.prints {
			t.Errorf("%s: got %q, want %q; %s", test.name, got, test.prints, n.file(id, "stderr.log"))
		}
	}
}
