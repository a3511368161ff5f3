package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// walk calls a function for each command below one that a user may call.
func walk(c *cobra.Command, fn func(*cobra.Command)) {
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() && below.Name() != "help" && below.Name() != "completion" {
			fn(below)
			walk(below, fn)
		}
	}
}

// TestHelpHasOneVoice: each command says in one line what it does, has an example, and
// describes its flags in one form. docs/development.md has the rule.
func TestHelpHasOneVoice(t *testing.T) {
	t.Parallel()
	root := (&Program{Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}).root(nil)
	n := 0
	walk(root, func(c *cobra.Command) {
		n++
		if !regexp.MustCompile(`^[A-Z][^\n]*[^.\n]$`).MatchString(c.Short) {
			t.Errorf("%s: Short is %q; begin with a capital, and end without a full stop", c.CommandPath(), c.Short)
		}
		if c.Example == "" || !strings.HasPrefix(c.Example, "  ") {
			t.Errorf("%s: Example is %q; give one, indented by two", c.CommandPath(), c.Example)
		}
		if long := c.Long; long != "" && (!regexp.MustCompile(`^[A-Z]`).MatchString(long) || !regexp.MustCompile("[.)]$").MatchString(long)) {
			t.Errorf("%s: Long is no text of whole sentences: %q", c.CommandPath(), long)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(strings.TrimSuffix(line, "\n"))) > 88 {
				t.Errorf("%s: a line of Long is too wide: %s", c.CommandPath(), line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			if !regexp.MustCompile("^[a-z`#]|^[A-Z]{2}").MatchString(f.Usage) || strings.HasSuffix(f.Usage, ".") && !strings.HasSuffix(f.Usage, "...") {
				t.Errorf("%s --%s: %q; begin in lower case, and end without a full stop", c.CommandPath(), f.Name, f.Usage)
			}
		})
	})
	if n < 25 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestNothingIsSaidTwice: whatever fails, with an instance, without one, with a stopped
// one and with a wrong key, standard error has one voice, and no advice comes twice.
func TestNothingIsSaidTwice(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	failing := []string{
		"pool show none", "pool show cpuu", "pool delete cpu", "pool lst", "pool apply -f none.yaml", "job show none", "job list --pool none",
		"job list --limit 0", "job list --state done", "job submit --pool none -- true", "job submit --pool cpu --id first -- true",
		"job submit --pool cpu --cpus 99 -- true", "job submit --pool cpu", "job wait first", "job wait bad", "node drain none", "node delete x",
		"usage --by colour", "run --pool cpu --script none.sh", "frob", "push show none", "context use none", "job logs third", "-o xml pool list",
	}
	var paths []string
	walk((&Program{}).root(nil), func(c *cobra.Command) {
		if !c.HasSubCommands() {
			path := strings.TrimPrefix(c.CommandPath(), "dsvm ")
			paths = append(paths, path, path+" none", path+" --frob")
		}
	})
	for _, args := range append(paths, failing...) {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			address := b.program.Getenv("DSVM_URL")
			for world, env := range map[string]map[string]string{
				"an instance": {"DSVM_URL": address, "DSVM_KEY": "secret"},
				"a wrong key": {"DSVM_URL": address, "DSVM_KEY": "other"},
				"a stopped":   {"DSVM_URL": closed.URL},
				"none":        {},
			} {
				variant := strings.HasSuffix(args, " none") || strings.HasSuffix(args, "--frob")
				if world == "a stopped" && (variant || strings.HasPrefix(args, "doctor")) || world == "none" && variant {
					continue // the others take long enough; doctor prints checks
				}
				b.out.b.Reset()
				b.err.b.Reset()
				b.program.In = strings.NewReader("")
				b.program.Getenv = func(name string) string { return env[name] }
				patience := 10 * time.Second
				if world == "a stopped" {
					patience = progressAfter + time.Second // what waits for an instance to come back ends here
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				code := b.program.Main(ctx, strings.Fields(args))
				cancel()
				if errs := b.err.String(); code != 0 && !strings.Contains(errs, "Usage:") {
					if why := wrongVoice(errs); why != "" {
						t.Errorf("%s: %s: %s", world, why, errs)
					}
				}
			}
		})
	}
}

// wrongVoice says what is wrong with what was written on standard error; "" = nothing.
func wrongVoice(errs string) string {
	said := map[string]bool{}
	for line := range strings.Lines(errs) {
		text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "dsvm: ")
		switch {
		case !ok:
			return fmt.Sprintf("a line does not begin with dsvm: %q", line)
		case strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "..."):
			return "a sentence ends with a full stop"
		case regexp.MustCompile(`^[A-Z][a-z]`).MatchString(text) && !strings.HasPrefix(text, "Azure"):
			return "a sentence begins with a capital letter"
		}
		parts := strings.Split(text, "; ")
		parts = append(parts, regexp.MustCompile("`dsvm [^`]*`").FindAllString(text, -1)...)
		for _, part := range parts {
			if said[part] {
				return fmt.Sprintf("%q is said twice", part)
			}
			said[part] = true
		}
	}
	return ""
}

func TestWrongVoice(t *testing.T) {
	t.Parallel()
	for errs, want := range map[string]string{
		"dsvm: there is none; `dsvm pool list` shows the pools\n": "",
		"dsvm: x\nUse it.\n": "does not begin",
		"dsvm: x.\n":         "full stop",
		"dsvm: No\n":         "capital",
		"dsvm: x; try again\ndsvm: y; try again\n":                                   "twice",
		"dsvm: x; `dsvm up` starts it\ndsvm: y: `dsvm up`\n":                         "twice",
		"dsvm: asking for the pools at http://127.0.0.1...\ndsvm: nothing answers\n": "",
	} {
		if got := wrongVoice(errs); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", errs, got, want)
		}
	}
}
