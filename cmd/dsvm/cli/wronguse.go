package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	written "dsvmpools/shared/document"
)

// valueError says in the words of this program what pflag says of the value of a flag.
func valueError(err error) error {
	var missing *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &wrong):
		return fmt.Errorf("--%s is %q; it takes %s", wrong.GetFlag().Name, wrong.GetValue(), valuesOf(wrong.GetFlag().Value.Type()))
	}
	return err
}

// valuesOf says what a flag of a type takes.
func valuesOf(kind string) string {
	switch kind {
	case "int", "uint", "int64", "uint64":
		return "a whole number"
	case "float64":
		return "a number"
	case "duration":
		return "a length of time, such as 90s, 15m, 2h or 1d"
	case "bool":
		return "true or false"
	}
	return "another value"
}

// needsVerb is what a command does that does nothing by itself.
func needsVerb(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		text := fmt.Sprintf("%q is not a command of %q", args[0], c.CommandPath())
		if near := nearestVerb(c, args[0]); near != "" {
			return WrongUse("%s; did you mean %q?", text, near)
		}
		return WrongUse("%s; `%s --help` lists them", text, c.CommandPath())
	}
	if form := c.Flag("output"); form != nil && form.Value.String() == outputJSON {
		return WrongUse("%s does nothing by itself; `%[1]s --help` lists its commands", c.CommandPath())
	}
	c.SetOut(c.ErrOrStderr())
	_ = c.Help() // it goes to standard error, where a failure to write helps nobody
	return &Exit{Code: codeWrongUse}
}

// elsewhere are words that other programs have for verbs of this one.
var elsewhere = map[string]string{
	"ls": "list", "ps": "list", "status": "show", "get": "show", "describe": "show", "info": "show", "why": "explain",
	"create": "apply", "add": "apply", "rm": "delete", "remove": "delete", "kill": "cancel", "stop": "cancel",
	"log": "logs", "tail": "logs", "retry": "rerun", "unhold": "release",
}

// nearestVerb is the command that may be meant by a word; "" = none is near.
func nearestVerb(c *cobra.Command, word string) string {
	var known []string
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			known = append(known, below.Name())
		}
	}
	if verb := elsewhere[word]; slices.Contains(known, verb) {
		return verb
	}
	return written.Nearest(word, known)
}

// addHelpers adds the commands help and completion, which say it too when they are called
// with the name of no command.
func addHelpers(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 && about.HasSubCommands() {
					return needsVerb(about, rest)
				}
				about.InitDefaultHelpFlag()
				return about.Help()
			}
		case "completion":
			c.Args, c.RunE = cobra.ArbitraryArgs, needsVerb
		}
	}
}

// completeFlags completes the values of flags that nothing else completes. Without it a shell
// offers the files of the folder for every value.
func completeFlags(c *cobra.Command) {
	files := []string{"file", "script", "each-line", "parameters", "app", "agent", "handler", "az", "payload", "jobs"}
	folders := []string{"sync", "fetch", "data", "out"}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := c.GetFlagCompletionFunc(f.Name); ok || f.Value.Type() == "bool" || slices.Contains(files, f.Name) {
			return
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if slices.Contains(folders, f.Name) {
			directive = cobra.ShellCompDirectiveFilterDirs
		}
		complete(c, f.Name, cobra.FixedCompletions(nil, directive))
	})
	for _, below := range c.Commands() {
		completeFlags(below)
	}
}

// sameDecimals writes amounts of money with as many digits after the point as the longest of
// them, so that the points of a column stand below each other. Other texts stay.
func sameDecimals(amounts []string) []string {
	digits := func(text string) int {
		_, after, ok := strings.Cut(text, ".")
		if !ok || strings.Trim(after, "0123456789") != "" {
			return -1
		}
		return len(after)
	}
	most := 0
	for _, text := range amounts {
		most = max(most, digits(text))
	}
	same := slices.Clone(amounts)
	for i, text := range same {
		if n := digits(text); n >= 0 {
			same[i] += strings.Repeat("0", most-n)
		}
	}
	return same
}
