package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
)

func contextCommand(p *Program) *cobra.Command {
	c := noun("context", "Keep the addresses and keys of several instances",
		contextList(p), contextAdd(p), contextUse(p), contextRemove(p))
	c.Long = `Keep the addresses and keys of several instances under names of your own, in a file
that only you may read. A command talks to the instance of

  1. --context NAME
  2. DSVM_URL and DSVM_KEY
  3. DSVM_CONTEXT, the name of a context
  4. .dsvm/instance.json in this folder, or the nearest one above that has it
  5. the current context, which dsvm context use chooses

and the first of them that is there counts. The file is contexts.json in the
folder dsvm of your settings; DSVM_CONFIG_DIR names another folder.`
	c.Example = `  dsvm context add prod --url https://name.azurewebsites.net
  dsvm context use prod
  dsvm --context test job list`
	return c
}

// ContextRow is a context as it is shown: without its key.
type ContextRow struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Current bool   `json:"current"`
}

func contextList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the contexts, and which one is current", Args: cobra.NoArgs,
		Long: `List the contexts, and which one is current. Keys are never shown. Where commands
in this folder talk to another instance than that of the current context, a line
on standard error says so.`,
		Example: "  dsvm context list\n  dsvm context list -o json",
		RunE: func(*cobra.Command, []string) error {
			all, err := p.readContexts()
			if err != nil {
				return err
			}
			rows := []ContextRow{}
			t := newTable("CURRENT NAME URL")
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				row := ContextRow{name, all.Contexts[name].URL, name == all.Current}
				rows = append(rows, row)
				mark := ""
				if row.Current {
					mark = "*"
				}
				t.add(mark, row.Name, row.URL)
			}
			if err := p.list(rows, t, "no contexts; `dsvm context add NAME --url URL` makes one"); err != nil {
				return err
			}
			if found, err := p.findInstance(); err == nil && found.context != all.Current {
				p.Say("commands here talk to %s, which %s names", found.URL, found.Source)
			}
			return nil
		},
	}
}

func contextAdd(p *Program) *cobra.Command {
	var address string
	var use, signIn bool
	c := &cobra.Command{
		Use: "add NAME --url URL", Short: "Add an instance, or give one another address and key", Args: exactly("the NAME of a context"),
		Long: `Add an instance under a name, or give a name another address and key. The key is
typed at a prompt, without being shown, or is the first line of standard input: it
never stands in a command line, where others could read it. With --sign-in there is
no key, and dsvm login signs you in. The first context that is added becomes the
current one. Prints the name.`,
		Example: "  dsvm context add prod --url https://name.azurewebsites.net\n" +
			"  az functionapp keys list --name APP --resource-group GROUP --query functionKeys.default -o tsv |\n" +
			"    dsvm context add prod --url https://name.azurewebsites.net --use",
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if !contextName.MatchString(name) {
				return WrongUse("%q cannot be the name of a context; it has 1 to 63 characters of A-Z a-z 0-9 . _ -", name)
			}
			if address == "" {
				return WrongUse("say where the instance is: `dsvm context add %s --url https://NAME.azurewebsites.net`", name)
			}
			if _, err := client.New(address, ""); err != nil {
				return err
			}
			all, err := p.readContexts()
			if err != nil {
				return err
			}
			key := ""
			if !signIn {
				if key, err = p.readKey(name); err != nil {
					return err
				}
			}
			all.Contexts[name] = contextRow{URL: strings.TrimRight(address, "/"), Key: key}
			if use || all.Current == "" {
				all.Current = name
			}
			if err := p.writeContexts(all); err != nil {
				return err
			}
			return p.answer(ContextRow{name, all.Contexts[name].URL, all.Current == name}, name)
		},
	}
	c.Flags().StringVar(&address, "url", "", "address of the instance")
	c.Flags().BoolVar(&signIn, "sign-in", false, "keep no key: dsvm login signs you in there")
	c.Flags().BoolVar(&use, "use", false, "make it the current context")
	return c
}

// maxKey is longer than any key.
const maxKey = 4096

// readKey asks for a key on a terminal, or reads the first line of standard input.
func (p *Program) readKey(name string) (key string, err error) {
	if p.Asks && p.ReadSecret != nil {
		fmt.Fprintf(p.Err, "Key of %s (it is not shown): ", contextSource(name))
		key, err = p.ReadSecret()
		fmt.Fprintln(p.Err)
	} else {
		var text []byte
		text, err = io.ReadAll(io.LimitReader(p.In, maxKey))
		key, _, _ = strings.Cut(string(text), "\n")
	}
	if key = strings.TrimSpace(key); err == nil && key == "" {
		err = errors.New("no key was given; type it at the prompt, or send it to standard input")
	}
	return key, err
}

func contextUse(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: exactly("the NAME of a context"),
		Example:           "  dsvm context use prod",
		ValidArgsFunction: firstOf(p.completeContexts),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := p.readContexts()
			if err != nil {
				return err
			}
			found, err := all.find(args[0])
			if err != nil {
				return err
			}
			all.Current = args[0]
			if err := p.writeContexts(all); err != nil {
				return err
			}
			if now, err := p.findInstance(); err == nil && now.context != args[0] {
				p.Say("commands here still talk to %s, which %s names", now.URL, now.Source)
			}
			return p.answer(ContextRow{args[0], found.URL, true}, args[0])
		},
	}
}

func contextRemove(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a context and its key", Args: exactly("the NAME of a context"),
		Long:              "Forget a context and its key. The instance is left alone. Prints the name.",
		Example:           "  dsvm context remove test",
		ValidArgsFunction: firstOf(p.completeContexts),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := p.readContexts()
			if err != nil {
				return err
			}
			found, err := all.find(args[0])
			if err != nil {
				return err
			}
			if delete(all.Contexts, args[0]); all.Current == args[0] {
				all.Current = ""
			}
			if err := p.writeContexts(all); err != nil {
				return err
			}
			return p.answer(ContextRow{args[0], found.URL, false}, args[0])
		},
	}
}

// completeContexts offers the names of contexts.
func (p *Program) completeContexts(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := p.readContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words(slices.Sorted(maps.Keys(all.Contexts)), func(name string) string { return name + "\t" + all.Contexts[name].URL }),
		cobra.ShellCompDirectiveNoFileComp
}
