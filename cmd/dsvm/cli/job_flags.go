package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagKind is what a flag of a job takes.
type flagKind int

const (
	textFlag   flagKind = iota
	numberFlag          // a whole number
	switchFlag          // true or false
	timeFlag            // RFC 3339
	wordsFlag           // a list, with commas or given again
	pairsFlag           // NAME=VALUE, given again
	valuesFlag          // NAME=VALUE,VALUE,..., given again
)

// jobFlag is a flag that gives a field of a job's document.
type jobFlag struct {
	name  string
	field string // its path in the document, with points
	kind  flagKind
	shown int // a number that the help names as the default; the server has it
	usage string
}

// fieldFlags are all flags that give a field, in the order of the document.
var fieldFlags = []jobFlag{
	{name: "id", field: "id", usage: "id of the job; the same id again is the same job"},
	{name: "pool", field: "pool", usage: "pool to run in"},
	{name: "name", field: "name", usage: "name for people"},
	{name: "team", field: "team", usage: "team that it counts for"},
	{name: "user", field: "user", usage: "user that it counts for"},
	{name: "workdir", field: "workdir", usage: "folder to run in: below the job's own, or a path on the share"},
	{name: "env", field: "env", kind: pairsFlag, usage: "variable for the job's environment, NAME=VALUE; may be repeated"},
	{name: "secret", field: "secrets", kind: pairsFlag,
		usage: "variable whose value a vault has, NAME=keyvault:VAULT/SECRET; may be repeated"},
	{name: "source", field: "source.repository", usage: "repository to run in, https://host/path or ssh://git@host/path; needs --commit"},
	{name: "commit", field: "source.commit", usage: "commit of the repository, its whole name"},
	{name: "tree", field: "source.tree",
		usage: "folder that was sent before, by its name tree:sha256:...; in the place of --source and --commit"},
	{name: "path", field: "source.path", usage: "folder of the repository, or of the tree, to start in"},
	{name: "submodules", field: "source.submodules", kind: switchFlag, usage: "with all submodules of the repository"},
	{name: "lfs", field: "source.lfs", kind: switchFlag, usage: "with the large files of git-lfs"},
	{name: "credential", field: "source.credential", usage: "name by which the nodes know the credential of the repository"},
	{name: "cpus", field: "resources.cpus", kind: numberFlag, shown: 1, usage: "processors that an attempt takes of a node"},
	{name: "gpus", field: "resources.gpus", kind: numberFlag, usage: "whole GPUs that an attempt takes of a node"},
	{name: "memory", field: "resources.memory",
		usage: "memory that is kept free for an attempt, such as 4Gi, and the most it gets where its node bounds it"},
	{name: "nodes", field: "nodes", kind: numberFlag, shown: 1, usage: "nodes that it runs on at once, a rank on each"},
	{name: "priority", field: "priority", usage: "place in the line: low, normal or high"},
	{name: "after", field: "after", kind: wordsFlag,
		usage: "id of a job, of any pool, that has to succeed first, or ID:failure, ID:any; may be repeated"},
	{name: "not-before", field: "notBefore", kind: timeFlag, usage: "time before which it does not run (2026-01-31T18:00:00Z)"},
	{name: "timeout", field: "timeout", usage: "longest time an attempt may run, such as 90s, 15m, 2h, 1d"},
	{name: "retry-max", field: "retry.max", kind: numberFlag, usage: "how many retries at most"},
	{name: "retry-on", field: "retry.on", kind: wordsFlag,
		usage: "what is retried: nodeLost, evicted, startFailed, agentRestarted, timeout, exitCode:N"},
	{name: "backoff", field: "retry.backoff", usage: "wait before each retry, such as 10s"},
	{name: "stop", field: "stop", usage: "who is asked to end first when the job is cancelled or its time is over: group or leader"},
	{name: "label", field: "labels", kind: pairsFlag, usage: "label, NAME=VALUE; may be repeated"},
	{name: "count", field: "sweep.count", kind: numberFlag, usage: "make it a sweep of so many members, each with its DSVM_INDEX"},
	{name: "grid", field: "sweep.grid", kind: valuesFlag,
		usage: "make it a sweep over the values of a variable, NAME=VALUE,VALUE,...; may be repeated"},
	{name: "parallel", field: "sweep.parallel", kind: numberFlag, usage: "how many members of the sweep may run at once"},
	{name: "max-fails", field: "sweep.maxFails", kind: numberFlag,
		usage: "how many members of the sweep may fail before it is held (default 10 while none succeeds)"},
}

// registerFields registers the flags of fields.
func registerFields(flags *pflag.FlagSet) {
	for _, f := range fieldFlags {
		switch f.kind {
		case numberFlag:
			flags.Int(f.name, f.shown, f.usage)
		case switchFlag:
			flags.Bool(f.name, false, f.usage)
		case wordsFlag:
			flags.StringSlice(f.name, nil, f.usage)
		case pairsFlag, valuesFlag:
			flags.StringArray(f.name, nil, f.usage)
		case textFlag, timeFlag:
			flags.String(f.name, "", f.usage)
		}
	}
}

// completeFields completes the values of the flags of fields.
func completeFields(p *Program, c *cobra.Command) {
	complete(c, "pool", p.completePools)
	complete(c, "after", p.completeJobs)
	complete(c, "retry-on", cobra.FixedCompletions([]string{"nodeLost", "evicted", "startFailed", "agentRestarted", "timeout", "exitCode:"},
		cobra.ShellCompDirectiveNoFileComp))
	complete(c, "stop", cobra.FixedCompletions([]string{"group", "leader"}, cobra.ShellCompDirectiveNoFileComp))
	complete(c, "priority", cobra.FixedCompletions([]string{"low", "normal", "high"}, cobra.ShellCompDirectiveNoFileComp))
}

// setFields sets the fields whose flags are given. Others keep what the file says.
func setFields(d *document, flags *pflag.FlagSet) error {
	for _, f := range fieldFlags {
		if !flags.Changed(f.name) {
			continue
		}
		if err := f.setIn(d, flags); err != nil {
			return err
		}
	}
	return nil
}

func (f *jobFlag) setIn(d *document, flags *pflag.FlagSet) error {
	path := strings.Split(f.field, ".")
	var value any
	var err error
	switch f.kind {
	case textFlag:
		value, err = flags.GetString(f.name)
	case numberFlag:
		value, err = flags.GetInt(f.name)
	case switchFlag:
		value, err = flags.GetBool(f.name)
	case wordsFlag:
		value, err = flags.GetStringSlice(f.name)
	case timeFlag:
		text := flags.Lookup(f.name).Value.String()
		at, wrong := time.Parse(time.RFC3339, text)
		if wrong != nil {
			return WrongUse("--%s is %q; it takes a time such as 2026-01-31T18:00:00Z", f.name, text)
		}
		value = at.UTC().Format(time.RFC3339)
	case pairsFlag, valuesFlag:
		return f.setPairs(d, flags, path)
	}
	if err != nil {
		return err
	}
	d.set(value, path...)
	return nil
}

// setPairs sets the names below a field that a flag gives. Other names keep what the file
// says.
func (f *jobFlag) setPairs(d *document, flags *pflag.FlagSet, path []string) error {
	pairs, err := flags.GetStringArray(f.name)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		at := append(path[:len(path):len(path)], name)
		switch {
		case !ok || name == "":
			if f.field == "secrets" { // what it says may be the secret itself
				return WrongUse("--secret takes NAME=keyvault:VAULT/SECRET, and never the secret itself")
			}
			form := "NAME=VALUE"
			if f.kind == valuesFlag {
				form = "NAME=VALUE,VALUE,..."
			}
			return WrongUse("--%s is %q; it takes %s", f.name, pair, form)
		case f.kind == valuesFlag:
			d.set(strings.Split(value, ","), at...)
		default:
			d.set(value, at...)
		}
	}
	return nil
}
