package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
)

// Limits of what a run of git may say.
const (
	maxGitWords  = 8 << 10 // the end of its standard error, which is kept
	maxGitAnswer = 4 << 20 // of its standard output, where that is read
	gitDrain     = 2 * time.Second
)

// gitConfig holds for every run of git by the agent, whatever a repository says: no
// program of the repository's runs, and nothing waits for a person. A
// server that says nothing at all for five minutes has gone.
var gitConfig = []string{
	"core.hooksPath=/dev/null",
	"core.fsmonitor=false",
	"core.askPass=",
	"protocol.ext.allow=never",
	"credential.helper=",
	"transfer.bundleURI=false",
	"fetch.recurseSubmodules=false",
	"submodule.recurse=false",
	"fetch.unpackLimit=1",
	"gc.auto=0",
	"maintenance.auto=false",
	"http.lowSpeedLimit=1",
	"http.lowSpeedTime=300",
}

// helperFD is where a credential waits for git's credential helper: a pipe, so
// that it is in no argument, no environment and no file.
const helperFD = 3

// nowhere is the home of git as the jobs' user: it has no settings of anybody's.
var nowhere = []string{"HOME=/nonexistent"}

// gitRun is one run of git, or of a shell around it.
type gitRun struct {
	key    string // of the attempt, so that what is left of it can be found
	name   string // the program
	args   []string
	dir    string
	env    []string
	as     *process.User // nil = the agent's own user
	in     io.Reader     // nil = nothing
	out    io.Writer     // nil = it is dropped
	secret *credential   // nil = there is none
}

// gitError is a run that failed, in git's own words.
type gitError struct{ words string }

func (e *gitError) Error() string {
	if last := shortenWords(e.words); last != "" {
		return "git says: " + last
	}
	return "git ended without a word"
}

// shortenWords makes one line of git's standard error: all of it when it is short,
// else what follows its first complaint.
func shortenWords(words string) string {
	const most = 300 // bytes, of a reason's 500 bytes
	var lines []string
	complaint := -1
	for line := range strings.Lines(words) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if complaint < 0 && (strings.HasPrefix(line, "fatal:") || strings.HasPrefix(line, "error:") || strings.HasPrefix(line, "remote:")) {
			complaint = len(lines)
		}
		lines = append(lines, line)
	}
	if text := strings.Join(lines, "; "); len(text) <= most {
		return text
	}
	text := strings.Join(lines[max(complaint, 0):], "; ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// run runs it to its end, or kills it and all it has started when the context
// ends first.
func (g gitRun) run(ctx context.Context) error {
	// On Linux a process dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := process.LookUp(g.name, process.Path, "")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, g.args...)
	said := &tail{most: maxGitWords}
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = g.dir, g.in, g.out, said
	cmd.Env = append([]string{"PATH=" + process.Path, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_LITERAL_PATHSPECS=1", process.KeyVariable + "=" + g.key}, g.env...)
	cmd.SysProcAttr = process.Attr(g.as)
	cmd.Cancel = func() error { return process.KillGroup(cmd.Process) }
	cmd.WaitDelay = gitDrain
	if g.secret != nil {
		pipe, err := g.secret.openPipe()
		if err != nil {
			return err
		}
		defer pipe.Close()
		cmd.ExtraFiles = []*os.File{pipe} // becomes helperFD
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		process.KillAttempt(g.key)
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	answer, _ := g.out.(*bounded)
	switch {
	case answer != nil && answer.over:
		return errTooLong
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &gitError{g.secret.scrub(printable(said.String()))}
	}
	return fmt.Errorf("git cannot be run on this node: %w", startfault.Innermost(err))
}

// tail keeps the end of what is written to it.
type tail struct {
	most int
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - t.most; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }

// bounded keeps what is written to it, and fails when it is too much.
type bounded struct {
	strings.Builder
	over bool
}

var errTooLong = errors.New("its answer is too long")

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxGitAnswer {
		b.over = true
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}

// printable drops what would move a terminal's cursor or break a line's text: a
// server may write anything into git's output.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\r' {
			return '\n'
		}
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
