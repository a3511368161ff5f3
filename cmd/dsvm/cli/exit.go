package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

// report writes an error with the next step and returns the exit code. c is the command
// that was called.
func (p *Program) report(c *cobra.Command, err error) int {
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
		code, err = codeCancelled, errInterrupted
	case !p.running, fault.CodeOf(err) == fault.Invalid:
		// A request that cannot be done as it stands is wrong use, also when the
		// server finds that.
		code = codeWrongUse
	}
	text := message(err)
	switch step := nextStep(c, err, p.running); {
	case step == "" || strings.Contains(text, step):
	case strings.HasSuffix(text, "?"):
		text += " " + step
	default:
		text += "; " + step
	}
	if p.output == outputJSON {
		p.reportJSON(problemOf(err, text, code))
		return code
	}
	if isEnded(err) {
		text = p.localTimes(text)
	}
	first := "dsvm: "
	for line := range strings.Lines(text) {
		fmt.Fprintln(p.Err, first+plain(strings.TrimRight(line, "\n")))
		first = ""
	}
	return code
}

var errInterrupted = errors.New("interrupted")

// Problem is an error as -o json writes it: a problem document, after RFC 9457, with the
// exit code of the process.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status,omitempty"` // of the answer of the instance; 0 = it did not answer
	Detail   string `json:"detail"`
	Field    string `json:"field,omitempty"` // the field or parameter it is about
	ExitCode int    `json:"exitCode"`
}

// problemOf makes the document of an error whose sentence is text.
func problemOf(err error, text string, code int) Problem {
	p := Problem{Type: wire.ProblemPrefix + "failed", Title: "It failed", Detail: text, ExitCode: code}
	var f *fault.Error
	var denied *client.Denied
	var unreachable *client.Unreachable
	var ended *jobEnd
	var anonymous *notSignedIn
	switch {
	case errors.As(err, &f):
		of := wire.NewProblem(f)
		p.Type, p.Title, p.Status, p.Field = of.Type, of.Title, of.Status, of.Field
	case errors.As(err, &denied):
		p.Type, p.Title, p.Status = wire.ProblemPrefix+"unauthorized", "The key is not accepted", http.StatusUnauthorized
	case errors.As(err, &anonymous):
		p.Type, p.Title = wire.ProblemPrefix+"unauthorized", "Nobody has signed in"
	case errors.As(err, &unreachable):
		p.Type, p.Title = wire.ProblemPrefix+"unreachable", "The instance does not answer"
	case errors.As(err, &ended):
		p.Type, p.Title = wire.ProblemPrefix+"jobEnded", "The job did not succeed"
	case code == codeCancelled:
		p.Type, p.Title = wire.ProblemPrefix+"interrupted", "It was interrupted"
	case code == codeWrongUse:
		p.Type, p.Title = wire.ProblemPrefix+"wrongUse", "The command was called wrongly"
	}
	return p
}

func (p *Program) reportJSON(problem Problem) {
	e := json.NewEncoder(p.Err)
	e.SetEscapeHTML(false)
	_ = e.Encode(problem) // a failure to write to standard error helps nobody
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
func nextStep(c *cobra.Command, err error, running bool) string {
	var f *fault.Error
	switch {
	case errors.As(err, &f) && f.Code == fault.Throttled && f.RetryAfter > 0:
		return fmt.Sprintf("try again in %s", f.RetryAfter)
	case !running && c != nil && !strings.Contains(message(err), "; "):
		return fmt.Sprintf("`%s --help` shows how it is called", c.CommandPath())
	}
	return ""
}

// flagError says which flag may be meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return valueError(err)
	}
	name := unknown.GetSpecifiedName()
	if near := nearestFlag(name, c.Flags()); near != "" {
		return fmt.Errorf("there is no flag --%s; did you mean --%s?", name, near)
	}
	if len(name) == 1 {
		return fmt.Errorf("there is no flag -%s", name)
	}
	return fmt.Errorf("there is no flag --%s", name)
}

// jobEnd is the error of a command that ends as a job did.
type jobEnd struct{ text string }

func (e *jobEnd) Error() string { return e.text }

// jobExit is the end of a command that ends as a job did.
func jobExit(j wire.Job) error {
	code := jobCode(j)
	if code == 0 {
		return nil
	}
	text := fmt.Sprintf("job %s is %s", j.ID, people(string(j.State)))
	if j.State == job.TimedOut || j.State == job.Failed {
		text = fmt.Sprintf("job %s %s", j.ID, people(string(j.State)))
	}
	if j.ExitCode != nil && code == *j.ExitCode {
		text = fmt.Sprintf("job %s failed with exit code %d", j.ID, code)
	}
	if j.Reason != "" && (j.ExitCode == nil || j.Reason != fmt.Sprintf("its process ended with exit code %d", *j.ExitCode)) {
		text += ": " + j.Reason
	}
	return &Exit{Code: code, Err: &jobEnd{text}}
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
