package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// azure is the program az, which signs in, knows the clouds, and works on every system
// that this one works on. It is the only thing here that speaks to Azure.
type azure struct {
	program      string
	subscription string // that every call is for; "" = not chosen yet
	log          io.Writer
	pause        func(context.Context, time.Duration) error // between looks
}

// azError is a call of az that failed.
type azError struct {
	Call string // without values, which may be anything: "az group show"
	Text string // what az has said on standard error
	Code string // Azure's own code of the error, if it named one
	Err  error
}

func (e *azError) Error() string {
	text := "`" + e.Call + "` failed: " + e.Text
	if mending := mend(e.Code, e.Text); mending != "" {
		text += "\n" + mending
	}
	return text
}

func (e *azError) Unwrap() error { return e.Err }

// isMissing reports whether a call failed because the thing is not there.
func isMissing(err error) bool {
	var failed *azError
	if !errors.As(err, &failed) {
		return false
	}
	for _, code := range []string{"ResourceNotFound", "ResourceGroupNotFound", "DeploymentNotFound", "NotFound"} {
		if failed.Code == code {
			return true
		}
	}
	return strings.Contains(failed.Text, "was not found") || strings.Contains(failed.Text, "could not be found") ||
		strings.Contains(failed.Text, "does not exist")
}

// run calls az with arguments and returns its standard output. Arguments must hold no
// secret, since every user of the machine may read them, and no character that the shell
// of Windows takes for its own (az is a batch file there): no quotes, no % and no &.
func (a *azure) run(ctx context.Context, args ...string) ([]byte, error) {
	return a.runTo(ctx, nil, args...)
}

// runTo is run; what az writes on standard output goes to out, too, while it runs.
func (a *azure) runTo(ctx context.Context, out io.Writer, args ...string) ([]byte, error) {
	call := "az " + strings.Join(verbs(args), " ")
	if a.subscription != "" {
		args = append(args, "--subscription", a.subscription)
	}
	cmd := exec.CommandContext(ctx, a.program, args...)
	// A console that is closed, or Ctrl-C, ends az together with this program; az that holds
	// on to its output is not waited for.
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if out != nil {
		cmd.Stdout = io.MultiWriter(&stdout, out)
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		text := complaint(stderr.String())
		return nil, &azError{Call: call, Text: text, Code: codeOf(text), Err: err}
	}
	return stdout.Bytes(), nil
}

// verbs are the words of a call before its first option.
func verbs(args []string) []string {
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			return args[:i]
		}
	}
	return args
}

// complaint is what az has said, without its warnings, at most a screen of it.
func complaint(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "WARNING:") {
			continue
		}
		lines = append(lines, strings.TrimPrefix(line, "ERROR: "))
	}
	if len(lines) == 0 {
		return "it said nothing about why"
	}
	const most = 12
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// get calls az for JSON and reads that.
func get[T any](ctx context.Context, a *azure, args ...string) (answer T, err error) {
	out, err := a.run(ctx, append(args, "--output", "json")...)
	if err != nil {
		return answer, err
	}
	if len(bytes.TrimSpace(out)) == 0 {
		return answer, nil
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return answer, fmt.Errorf("`az %s` answers something that cannot be read: %w", strings.Join(verbs(args), " "), err)
	}
	return answer, nil
}

// progressEvery is how often something that takes long says that it goes on.
const progressEvery = 20 * time.Second

// runLong is run for what takes minutes: it says now and then that it goes on.
func (a *azure) runLong(ctx context.Context, doing string, args ...string) ([]byte, error) {
	begin, done := time.Now(), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(a.log, "dsvm: still %s (%s)\n", doing, time.Since(begin).Round(time.Second))
			}
		}
	}()
	out, err := a.run(ctx, args...)
	close(done)
	<-stopped
	return out, err
}

// look is what a look at something has found: whether it is done, and in words why
// not yet.
type look struct {
	done bool
	why  string
}

// until looks again and again, with a pause between, until it is done or the time is over,
// and says now and then what it waits for. An error of the look ends it at once.
func (a *azure) until(ctx context.Context, what string, bound time.Duration, try func(context.Context) (look, error)) error {
	const every = 5 * time.Second
	var waited time.Duration
	for {
		seen, err := try(ctx)
		if err != nil || seen.done {
			return err
		}
		if waited >= bound {
			return fmt.Errorf("gave up after %s of waiting until %s: %s", bound, what, seen.why)
		}
		if waited%progressEvery == 0 {
			fmt.Fprintf(a.log, "dsvm: waiting until %s (%s): %s\n", what, waited, seen.why)
		}
		if err := a.pause(ctx, every); err != nil {
			return err
		}
		waited += every
	}
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
