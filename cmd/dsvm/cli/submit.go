package cli

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvmpools/shared/wire"
)

// jobFlags are the flags that make a job's document, beside those of its fields.
type jobFlags struct {
	file     string
	script   string
	eachLine string
	dryRun   bool
	sync     syncFlags
}

func (f *jobFlags) register(p *Program, c *cobra.Command) {
	flags := c.Flags()
	flags.SetInterspersed(false) // what follows the first word is the job's command, flags and all
	flags.StringVarP(&f.file, "file", "f", "", "file that describes the job (YAML or JSON); - is standard input; flags go before it")
	flags.StringVar(&f.script, "script", "",
		"file with a script to run instead of a command; what follows the flags are its arguments; - is standard input")
	flags.StringVar(&f.eachLine, "each-line", "",
		"make it a sweep with a member for each line of a file, as variable LINE; NAME=FILE names the variable")
	flags.BoolVar(&f.dryRun, "dry-run", false, "submit nothing; show the document, and what would become of the job")
	f.sync.register(c)
	registerFields(flags)
	completeFields(p, c)
}

// document is the one job that the file, the flags and the command describe.
func (f *jobFlags) document(p *Program, flags *pflag.FlagSet, command []string) (*document, error) {
	all, err := f.documents(p, flags, command)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 {
		return nil, WrongUse("%s holds %d jobs, and run follows one; send them with `dsvm job submit -f %s`", f.file, len(all), f.file)
	}
	return all[0], nil
}

// documents are the jobs that the file, the flags and the command describe. Flags win over
// #DSVM lines of the script, and these over the file.
func (f *jobFlags) documents(p *Program, flags *pflag.FlagSet, command []string) ([]*document, error) {
	inputs := 0
	for _, name := range []string{f.file, f.script, f.eachLine[strings.IndexByte(f.eachLine, '=')+1:]} {
		if name == "-" {
			inputs++
		}
	}
	if inputs > 1 {
		return nil, WrongUse("only one of --file, --script and --each-line can be standard input")
	}
	all, err := p.readDocuments(f.file)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 && (flags.Changed("id") || f.script != "" || f.eachLine != "" || len(command) > 0) {
		return nil, WrongUse("%s holds %d jobs, and --id, --script, --each-line and a command are for one; leave them out, "+
			"or put the job you mean into a file", f.file, len(all))
	}
	for _, d := range all {
		if err := f.complete(p, d, flags, command); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// complete adds to a document what the script, the flags and the command say.
func (f *jobFlags) complete(p *Program, d *document, flags *pflag.FlagSet, command []string) error {
	if err := f.setWork(p, d, command); err != nil {
		return err
	}
	if err := setFields(d, flags); err != nil {
		return err
	}
	if f.eachLine != "" {
		if flags.Changed("count") || flags.Changed("grid") {
			return WrongUse("--each-line, --grid and --count each make a sweep; give one of them")
		}
		if err := p.setLines(d, f.eachLine); err != nil {
			return err
		}
	}
	if d.name == "" {
		if d.fields["command"] == nil && d.fields["script"] == nil {
			return WrongUse("say what to run: a command after --, --script FILE or -f FILE")
		}
		if d.text("pool") == "" {
			return WrongUse("say where to run it: --pool NAME")
		}
	}
	large, err := d.isLarge()
	switch {
	case err != nil:
		return err
	case large && f.sync.isSet():
		return WrongUse("the job has more than %d KiB, and --sync sends a folder: put its script and its lines into that folder, "+
			"and run them from there, as in `-- bash train.sh`", wire.MaxDocument>>10)
	}
	return d.moveLargeParts()
}

// setWork sets what the job runs: a command, or a script whose arguments are the words
// after the flags. What is given here takes the place of either in the file.
func (f *jobFlags) setWork(p *Program, d *document, command []string) error {
	switch {
	case f.script == "" && len(command) > 0:
		d.set(command, "command")
		delete(d.fields, "script")
		delete(d.fields, "args")
	case f.script != "":
		text, err := p.readScript(f.script)
		if err != nil {
			return err
		}
		d.set(text, "script")
		d.script = filepath.Base(f.script)
		delete(d.fields, "command")
		if delete(d.fields, "args"); len(command) > 0 {
			d.set(command, "args")
		}
		return setDirectives(d, f.script, text)
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

A job starts in an empty folder, with none of the files of this one. --sync sends a
folder along and starts the job in it, --script sends a script; other files are named
by their path on the share, or come from a repository (--source and --commit).
Lines such as "#DSVM --gpus 1 --timeout 2h" at the head of a script are flags as
well. docs/jobs.md says more.`

func jobSubmit(p *Program) *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "submit [flags] [-f FILE] [--] [COMMAND...]",
		Short: "Submit a job, or several of one file",
		Long: `Submit a job and print its id. A file with several jobs (YAML documents with ---
between them, or a list) sends each of them, and prints an id in a line for each.

` + jobFlagsHelp,
		Example: `  dsvm job submit --pool cpu -- sh -c 'echo I am job $DSVM_JOB_ID'
  dsvm job submit --pool cpu --cpus 4 --timeout 2h --env LR=0.1 --script train.sh
  dsvm job submit --pool cpu --grid LR=0.1,0.01 --grid SEED=1,2,3 --parallel 4 --script train.sh
  dsvm job submit --pool cpu --each-line FILE=files.txt -- sh -c 'wc "$FILE"'
  dsvm job submit --pool gpu --gpus 1 --memory 16Gi -- python3 /mnt/share/code/train.py
  dsvm job submit --pool cpu --sync . -- python3 train.py
  dsvm job submit -f job.yaml --name again
  dsvm job submit -f pipeline.json
  dsvm job submit -f job.yaml --dry-run`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			all, err := f.documents(p, c.Flags(), args)
			if err != nil {
				return err
			}
			if f.dryRun {
				f.sync.noteDryRun(p)
				return p.dryRun(c.Context(), all)
			}
			if done, err := f.sync.send(c.Context(), p, all...); done || err != nil {
				return err
			}
			if len(all) > 1 {
				return p.submitAll(c.Context(), all)
			}
			d := all[0]
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
	if err := d.sendFiles(ctx, s); err != nil {
		return wire.Job{}, err
	}
	body, err := d.encode()
	if err != nil {
		return wire.Job{}, err
	}
	j, err := s.Submit(ctx, id, body)
	return j, d.locate(err)
}
