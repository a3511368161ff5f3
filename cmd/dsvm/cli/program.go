// Package cli is the command line that talks to an instance over its HTTP API:
// pools, nodes, jobs and usage. It knows nothing of how an instance works;
// commands that run parts of one are added to the root by package main.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dsvmpools/shared/version"
)

// Program is what a run of the command line stands on, so that a test can run
// it.
type Program struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Dir      string // the folder in which the search for an instance begins
	Now      func() time.Time
	Zone     *time.Location
	Width    int  // columns of the terminal that Out is; 0 = it is none
	Color    bool // on Out
	Asks     bool // In is a terminal, where somebody can be asked

	output  string // table | json
	running bool   // past the checks of flags and arguments
}

// Command makes a command; it is how others add theirs to the root.
type Command func(*Program) *cobra.Command

// System is the program of this process.
func System() *Program {
	p := &Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now, Zone: time.Local}
	p.Dir, _ = os.Getwd() // without one, the search finds nothing and says so
	if out := int(os.Stdout.Fd()); term.IsTerminal(out) {
		p.Width = 80
		if width, _, err := term.GetSize(out); err == nil && width > 0 {
			p.Width = width
		}
		p.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && enableColor()
	}
	p.Asks = term.IsTerminal(int(os.Stdin.Fd()))
	return p
}

// Main runs the command line and returns the exit code of the process.
func (p *Program) Main(ctx context.Context, args []string, more ...Command) int {
	root := p.root(more)
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	p.running = false
	return p.report(root.ExecuteContext(ctx))
}

func (p *Program) root(more []Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "dsvm",
		Short: "Run jobs on pools of machines that exist only while there is work",
		Long: `Run jobs on pools of machines that exist only while there is work.

The instance to talk to is named by DSVM_URL and DSVM_KEY, or else by the file
.dsvm/instance.json in this folder or the nearest one above that has it; dsvm up
writes that file.

Exit code: 0 done, 1 failed, 2 wrong use. run and job wait end with the exit code
of the job, 124 when it timed out, 130 when it was cancelled, and 125 when the
platform ended it in another way.`,
		Example: `  dsvm pool apply -f pool.yaml
  dsvm run --pool cpu -- echo hello
  dsvm job list --state running -o json`,
		Args:          cobra.NoArgs,
		Version:       version.Read().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if p.output != "table" && p.output != "json" {
				return WrongUse("output is %q; it takes table or json", p.output)
			}
			p.running = true
			return nil
		},
		RunE: needsVerb,
	}
	root.PersistentFlags().StringVarP(&p.output, "output", "o", "table", "form of the answer: table or json")
	complete(root, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	own := []Command{poolCommand, nodeCommand, jobCommand, runCommand, usageCommand, pushCommand, faultCommand, versionCommand}
	for _, command := range append(own, more...) {
		root.AddCommand(command(p))
	}
	return root
}

// noun makes a command that only has verbs below it.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: needsVerb,
		SuggestionsMinimumDistance: 2} // letters that may be wrong
	c.AddCommand(verbs...)
	return c
}

// needsVerb is what a command does that does nothing by itself.
func needsVerb(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		text := fmt.Sprintf("%q is not a command of %q", args[0], c.CommandPath())
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %q?", near[0])
		}
		return WrongUse("%s", text)
	}
	c.SetOut(c.ErrOrStderr())
	_ = c.Help() // it goes to standard error, where a failure to write helps nobody
	return &Exit{Code: codeWrongUse}
}
