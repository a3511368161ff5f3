package cli

import (
	"context"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvmpools/shared/wire"
)

// jobFlags are the fields of a job that flags can give.
type jobFlags struct {
	file      string
	script    string
	notBefore string
	id        string
	texts     map[string]*string // by the name of the flag
	cpus      int
	nodes     int
	gpus      int
	after     []string
	count     int
	grid      []string
	parallel  int
	maxFails  int
	retryMax  int
	retryOn   []string
	env       []string
	labels    []string
}

// textFields are the flags that are texts, with the place of their field.
var textFields = []struct {
	flag, usage string
	path        []string
}{
	{"pool", "pool to run in", []string{"pool"}},
	{"name", "name for people", []string{"name"}},
	{"team", "team that it counts for", []string{"team"}},
	{"user", "user that it counts for", []string{"user"}},
	{"priority", "place in the line: low, normal or high", []string{"priority"}},
	{"timeout", "longest time an attempt may run, such as 90s, 15m, 2h, 1d", []string{"timeout"}},
	{"backoff", "wait before each retry, such as 10s", []string{"retry", "backoff"}},
	{"workdir", "folder to run in: below the job's own, or a path on the share", []string{"workdir"}},
	{"memory", "memory that is kept free for an attempt, such as 4Gi, and the most it gets where its node bounds it",
		[]string{"resources", "memory"}},
	{"stop", "who is asked to end first when the job is cancelled or its time is over: group or leader", []string{"stop"}},
}

func (f *jobFlags) register(p *Program, c *cobra.Command) {
	flags := c.Flags()
	flags.SetInterspersed(false) // what follows the first word is the job's command, flags and all
	flags.StringVarP(&f.file, "file", "f", "", "file that describes the job (YAML or JSON); - is standard input; flags go before it")
	flags.StringVar(&f.id, "id", "", "id of the job; the same id again is the same job")
	f.texts = map[string]*string{}
	for _, field := range textFields {
		f.texts[field.flag] = flags.String(field.flag, "", field.usage)
	}
	flags.IntVar(&f.cpus, "cpus", 1, "processors that an attempt takes of a node")
	flags.IntVar(&f.nodes, "nodes", 1, "nodes that it runs on at once, a rank on each")
	flags.IntVar(&f.gpus, "gpus", 0, "whole GPUs that an attempt takes of a node")
	flags.StringSliceVar(&f.after, "after", nil,
		"id of a job of the pool that has to succeed first, or ID:failure, ID:any; may be given again")
	flags.IntVar(&f.count, "count", 0, "make it a sweep of so many members, each with its DSVM_INDEX")
	flags.StringArrayVar(&f.grid, "grid", nil, "make it a sweep over the values of a variable, K=V,V,V; may be given again")
	flags.IntVar(&f.maxFails, "max-fails", 0, "how many members of the sweep may fail before it is held (default 10 while none succeeds)")
	flags.IntVar(&f.parallel, "parallel", 0, "how many members of the sweep may run at once")
	flags.StringArrayVar(&f.env, "env", nil, "variable for the job's environment, K=V; may be given again")
	flags.StringArrayVar(&f.labels, "label", nil, "label, K=V; may be given again")
	flags.IntVar(&f.retryMax, "retry-max", 0, "how many retries at most")
	flags.StringSliceVar(&f.retryOn, "retry-on", nil,
		"what is retried: nodeLost, evicted, startFailed, agentRestarted, timeout, exitCode:N")
	flags.StringVar(&f.script, "script", "", "file with a script to run instead of a command; - is standard input")
	flags.StringVar(&f.notBefore, "not-before", "", "time before which it does not run (2026-01-31T18:00:00Z)")
	complete(c, "pool", p.completePools)
	complete(c, "stop", cobra.FixedCompletions([]string{"group", "leader"}, cobra.ShellCompDirectiveNoFileComp))
	complete(c, "priority", cobra.FixedCompletions([]string{"low", "normal", "high"}, cobra.ShellCompDirectiveNoFileComp))
}

// document is the job that the file, the flags and the command describe.
func (f *jobFlags) document(p *Program, flags *pflag.FlagSet, command []string) (*document, error) {
	if f.file == "-" && f.script == "-" {
		return nil, WrongUse("--file and --script cannot both be standard input")
	}
	d, err := p.readDocument(f.file)
	if err != nil {
		return nil, err
	}
	for _, field := range textFields {
		if flags.Changed(field.flag) {
			d.set(*f.texts[field.flag], field.path...)
		}
	}
	if flags.Changed("id") {
		d.set(f.id, "id")
	}
	if flags.Changed("cpus") {
		d.set(f.cpus, "resources", "cpus")
	}
	if flags.Changed("nodes") {
		d.set(f.nodes, "nodes")
	}
	if flags.Changed("gpus") {
		d.set(f.gpus, "resources", "gpus")
	}
	if flags.Changed("after") {
		d.set(f.after, "after")
	}
	if flags.Changed("count") {
		d.set(f.count, "sweep", "count")
	}
	if flags.Changed("parallel") {
		d.set(f.parallel, "sweep", "parallel")
	}
	if flags.Changed("max-fails") {
		d.set(f.maxFails, "sweep", "maxFails")
	}
	for _, axis := range f.grid {
		name, values, ok := strings.Cut(axis, "=")
		if !ok || name == "" {
			return nil, WrongUse("--grid is %q; it takes NAME=VALUE,VALUE,...", axis)
		}
		d.set(strings.Split(values, ","), "sweep", "grid", name)
	}
	if flags.Changed("retry-max") {
		d.set(f.retryMax, "retry", "max")
	}
	if flags.Changed("retry-on") {
		d.set(f.retryOn, "retry", "on")
	}
	for _, pairs := range []struct {
		flag, field string
		values      []string
	}{{"--env", "env", f.env}, {"--label", "labels", f.labels}} {
		for _, pair := range pairs.values {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || name == "" {
				return nil, WrongUse("%s is %q; it takes NAME=VALUE", pairs.flag, pair)
			}
			d.set(value, pairs.field, name)
		}
	}
	if f.notBefore != "" {
		at, err := time.Parse(time.RFC3339, f.notBefore)
		if err != nil {
			return nil, WrongUse("--not-before is %q; it takes a time such as 2026-01-31T18:00:00Z", f.notBefore)
		}
		d.set(at.UTC().Format(time.RFC3339), "notBefore")
	}
	return d, f.work(p, d, command)
}

// work sets what the job runs: a command or a script, and what is given here
// takes the place of either in the file.
func (f *jobFlags) work(p *Program, d *document, command []string) error {
	if f.script != "" && len(command) > 0 {
		return WrongUse("give either --script or a command, not both")
	}
	switch {
	case len(command) > 0:
		d.set(command, "command")
		delete(d.fields, "script")
	case f.script != "":
		text, err := p.readFile(f.script)
		if err != nil {
			return err
		}
		d.set(string(text), "script")
		delete(d.fields, "command")
	}
	if d.name == "" {
		if d.fields["command"] == nil && d.fields["script"] == nil {
			return WrongUse("say what to run: a command after --, --script FILE or -f FILE")
		}
		if d.text("pool") == "" {
			return WrongUse("say where to run it: --pool NAME")
		}
	}
	return nil
}

// newID names a job that has no id of its own, so that sending it twice is
// harmless.
func newID(d *document) string {
	if id := d.text("id"); id != "" {
		return id
	}
	return strings.ToLower(ulid.Make().String())
}

const jobFlagsHelp = `A job is described by a file, by flags, or by both; flags win. What follows the
flags is the command that the job runs; -- in front of it keeps it apart.

A job starts in an empty folder, with none of the files of this one. --script sends
a script along; other files are named by their path on the share, or come from a
repository (the field source of a document). docs/jobs.md says more.`

func jobSubmit(p *Program) *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "submit [flags] [-f FILE] [--] [COMMAND...]",
		Short: "Submit a job",
		Long:  "Submit a job and print its id.\n\n" + jobFlagsHelp,
		Example: `  dsvm job submit --pool cpu -- sh -c 'echo I am job $DSVM_JOB_ID'
  dsvm job submit --pool cpu --cpus 4 --timeout 2h --env LR=0.1 --script train.sh
  dsvm job submit --pool cpu --grid LR=0.1,0.01 --grid SEED=1,2,3 --parallel 4 --script train.sh
  dsvm job submit --pool gpu --gpus 1 --memory 16Gi -- python3 /mnt/share/code/train.py
  dsvm job submit -f job.yaml --name again`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := f.document(p, c.Flags(), args)
			if err != nil {
				return err
			}
			j, err := ask(c.Context(), p, "submitting the job", func(ctx context.Context, s *session) (wire.Job, error) {
				return submit(ctx, s, d, newID(d))
			})
			if err != nil {
				return err
			}
			return p.answer(j, j.ID)
		},
	}
	f.register(p, c)
	return c
}

func submit(ctx context.Context, s *session, d *document, id string) (wire.Job, error) {
	body, err := d.encode()
	if err != nil {
		return wire.Job{}, err
	}
	j, err := s.Submit(ctx, id, body)
	return j, d.locate(err)
}
