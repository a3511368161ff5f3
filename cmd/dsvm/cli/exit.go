package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// Exit codes of the command line.
const (
	codeFailure  = 1
	codeWrongUse = 2
	// Of jobs that have no exit code of their own.
	codeTimedOut  = 124 // as of timeout(1)
	codePlatform  = 125
	codeCancelled = 130 // as of a shell after Ctrl-C
)

// Exit is an error that names the exit code of the process. Without an Err
// nothing more is said.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// WrongUse is an error about how the command was called. It ends the process with
// exit code 2.
func WrongUse(format string, args ...any) error {
	return &Exit{Code: codeWrongUse, Err: fmt.Errorf(format, args...)}
}

// report writes an error with the next step and returns the exit code.
func (p *Program) report(err error) int {
	if err == nil {
		return 0
	}
	code := codeFailure
	var exit *Exit
	switch {
	case errors.As(err, &exit):
		code = exit.Code
		if exit.Err == nil {
			return code
		}
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.Err, "dsvm: interrupted")
		return codeCancelled
	case !p.running, fault.CodeOf(err) == fault.Invalid:
		// A request that cannot be done as it stands is wrong use, also when the
		// server finds that.
		code = codeWrongUse
	}
	first := "dsvm: "
	for line := range strings.Lines(message(err)) {
		fmt.Fprintln(p.Err, first+plain(strings.TrimRight(line, "\n")))
		first = ""
	}
	if step := nextStep(err, p.running); step != "" {
		fmt.Fprintln(p.Err, step)
	}
	return code
}

// message is the sentence of an error for the person. The causes of a fault are
// for a log.
func message(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && err == error(f) {
		return f.Message
	}
	return err.Error()
}

// nextStep says what to do about an error, where the error itself does not.
func nextStep(err error, running bool) string {
	var denied *client.Denied
	var f *fault.Error
	switch {
	case errors.As(err, &denied):
		return "Set DSVM_KEY to a key of the function app, or unset DSVM_URL to use the instance of this folder."
	case errors.As(err, &f) && f.Code == fault.Throttled && f.RetryAfter > 0:
		return fmt.Sprintf("Try again in %s.", f.RetryAfter)
	case !running:
		return "dsvm --help, and --help after any command, show what there is."
	}
	return ""
}

// jobExit is the end of a command that ends as a job did.
func jobExit(j wire.Job) error {
	code := jobCode(j)
	if code == 0 {
		return nil
	}
	text := fmt.Sprintf("job %s is %s", j.ID, j.State)
	if j.ExitCode != nil && code == *j.ExitCode {
		text = fmt.Sprintf("job %s failed with exit code %d", j.ID, code)
	}
	if j.Reason != "" {
		text += ": " + j.Reason
	}
	return &Exit{Code: code, Err: errors.New(text)}
}

// jobCode turns the end of a job into an exit code of a process.
func jobCode(j wire.Job) int {
	switch {
	case j.State == job.Succeeded:
		return 0
	case j.State == job.TimedOut:
		return codeTimedOut
	case j.State == job.Cancelled:
		return codeCancelled
	case j.ExitCode == nil || *j.ExitCode >= job.ExitNodeLost && *j.ExitCode <= job.ExitCancelled || *j.ExitCode == 0:
		return codePlatform
	case *j.ExitCode < 0 || *j.ExitCode > 255:
		// A code of Windows that a Unix process cannot have, and that must not be
		// cut to 0.
		return codeFailure
	}
	return *j.ExitCode
}
