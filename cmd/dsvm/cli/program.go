// Package cli is the command line that talks to an instance over its HTTP API:
// pools, nodes, jobs and usage. It knows nothing of how an instance works;
// commands that run parts of one are added to the root by package main.
package cli

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dsvmpools/shared/version"
	"dsvmpools/shared/wire"
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
	Width    int      // columns of the terminal that Out is; 0 = it is none
	Color    bool     // on Out
	ErrWidth int      // columns of the terminal that Err is; 0 = it is none
	ErrColor bool     // on Err
	Asks     bool     // In is a terminal, where somebody can be asked
	Signals  *Signals // that ask the process to end; nil = nobody listens to them

	// ConfigDir is the folder for the user's settings of this program; "" = it is not known.
	ConfigDir string
	// ReadSecret reads a line from the terminal without showing it; nil = In is none.
	ReadSecret func() (string, error)

	// Home is the user's home folder; "" = it is not known.
	Home string
	// Browse opens an address in the user's browser; nil = there is none.
	Browse func(ctx context.Context, address string) error
	// DialDesktop connects to the desktop of a session.
	DialDesktop func(context.Context, wire.SessionDesktop) (net.Conn, error)
	// OpenTTY opens the terminal, also where In is another file; nil = there is none.
	OpenTTY func() (Terminal, error)

	answers *bufio.Reader // of In, for Ask

	instanceFile string // that describes the instance; "" = it is looked for

	output  string // table | json
	utc     bool   // write times in UTC
	context string // of --context
	running bool   // past the checks of flags and arguments

	renewing *atomic.Bool // a line on Err is written again and again; nil = none is
}

// Command makes a command; it is how others add theirs to the root.
type Command func(*Program) *cobra.Command

// System is the program of this process.
func System() *Program {
	p := &Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now, Zone: time.Local}
	p.Dir, _ = os.Getwd() // without one, the search finds nothing and says so
	color := func() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && enableColor() }
	if p.Width = terminalWidth(os.Stdout); p.Width > 0 {
		p.Color = color()
	}
	if p.ErrWidth = terminalWidth(os.Stderr); p.ErrWidth > 0 {
		p.ErrColor = color()
	}
	if home, err := os.UserHomeDir(); err == nil {
		p.Home = home
	}
	p.OpenTTY = openTTY
	if dir, err := os.UserConfigDir(); err == nil {
		p.ConfigDir = filepath.Join(dir, "dsvm")
	}
	if p.Asks = term.IsTerminal(int(os.Stdin.Fd())); p.Asks {
		p.ReadSecret = func() (string, error) {
			line, err := term.ReadPassword(int(os.Stdin.Fd()))
			return string(line), err
		}
	}
	return p
}

// terminalWidth is how many columns a terminal has, or COLUMNS says that it has; 0 = the
// file is no terminal.
func terminalWidth(f *os.File) int {
	if !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		return columns
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	const usual = 80
	return usual
}

// Main runs the command line and returns the exit code of the process.
func (p *Program) Main(ctx context.Context, args []string, more ...Command) int {
	root := p.root(more)
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	p.running, p.answers = false, nil
	c, err := root.ExecuteContextC(ctx)
	if !p.running && asksForJSON(args) {
		p.output = outputJSON // the flags were not read to their end
	}
	return p.report(c, err)
}

func (p *Program) root(more []Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "dsvm",
		Short: "Run jobs on pools of machines that exist only while there is work",
		Long: `Run jobs on pools of machines that exist only while there is work.

The instance to talk to is named by --context, or else by DSVM_URL and DSVM_KEY, or
by DSVM_CONTEXT, or by the file .dsvm/instance.json in this folder or the nearest
one above that has it (dsvm up writes it), or by the current context (dsvm context
--help).

Answers go to standard output, everything else to standard error. With -o json an
error is one line of JSON there: a problem document with type, title, detail, the
field it is about, and the exit code.

Exit code: 0 done, 1 failed, 2 wrong use. run and job wait end with the exit code
of the job, 124 when it timed out, 130 when it was cancelled, and 125 when the
platform ended it in another way.`,
		Example: `  dsvm pool apply -f pool.yaml
  dsvm run --pool cpu -- echo hello
  dsvm job list --state running -o json`,
		Args:          cobra.ArbitraryArgs,
		Version:       version.Read().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			switch {
			case p.output == outputTable, p.output == outputJSON, p.output == outputCSV && c.Annotations[outputCSV] != "":
			case p.output == outputCSV:
				return WrongUse("--output is csv, which %s does not have; it takes table or json", c.CommandPath())
			default:
				return WrongUse("--output is %q; it takes table or json", p.output)
			}
			p.running = true
			return nil
		},
		RunE: needsVerb,
	}
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVarP(&p.output, "output", "o", outputTable, "form of the answer, and of an error: table or json")
	root.PersistentFlags().BoolVar(&p.utc, "utc", false, "write times in UTC, and not in the local zone")
	root.PersistentFlags().StringVar(&p.context, "context", "", "talk to the instance of this context")
	complete(root, "context", p.completeContexts)
	complete(root, "output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	own := []Command{poolCommand, nodeCommand, jobCommand, runCommand,
		connectCommand, sshCommands, codeCommand, jupyterCommand, rdpCommand, sessionCommand, copyCommand, listCommand, usageCommand,
		priceCommand,
		budgetCommand, pushCommand, rejectedCommand, troubleCommand, faultCommand, doctorCommand, loginCommand, logoutCommand, whoamiCommand,
		pageCommand, auditCommand, contextCommand, versionCommand}
	for _, command := range append(own, more...) {
		root.AddCommand(command(p))
	}
	addHelpers(root)
	completeFlags(root)
	return root
}

// Forms of an answer.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputCSV   = "csv" // of commands with this annotation
)

// asksForJSON looks for -o json among arguments whose flags could not be read.
func asksForJSON(args []string) bool {
	for i, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "-o" || arg == "--output":
			return i+1 < len(args) && args[i+1] == outputJSON
		case arg == "-ojson" || arg == "-o=json" || arg == "--output=json":
			return true
		}
	}
	return false
}

// noun makes a command that only has verbs below it.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: needsVerb}
	c.AddCommand(verbs...)
	return c
}

// AnswersJSON reports whether the answer has the form of JSON, as -o json asks for.
func (p *Program) AnswersJSON() bool { return p.output == outputJSON }
