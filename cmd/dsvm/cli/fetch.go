package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
)

// fetchFlags say where the output of a job goes that is run and followed.
type fetchFlags struct {
	folder string
	on     string // fetchSuccess or fetchAny
	force  bool
}

// When the output is fetched.
const (
	fetchSuccess = "success"
	fetchAny     = "any"
)

func (f *fetchFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.folder, "fetch", "", "copy what the job has written to this folder when it has succeeded")
	c.Flags().StringVar(&f.on, "fetch-on", fetchSuccess, "when --fetch copies: success or any")
	c.Flags().BoolVar(&f.force, "fetch-force", false, "with --fetch: replace files that are there and are others")
	complete(c, "fetch-on", cobra.FixedCompletions([]string{fetchSuccess, fetchAny}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.MarkFlagDirname("fetch") // it is there
}

// check refuses flags that mean nothing.
func (f *fetchFlags) check(detached bool) error {
	switch {
	case f.on != fetchSuccess && f.on != fetchAny:
		return WrongUse("--fetch-on is %q; it takes success or any", f.on)
	case f.folder == "" && (f.on != fetchSuccess || f.force):
		return WrongUse("--fetch-on and --fetch-force say how --fetch copies; add --fetch FOLDER")
	case f.folder != "" && detached:
		return WrongUse("--fetch copies when the job has ended, and --detach does not wait for that; use `dsvm cp -r job:ID FOLDER` later")
	}
	return nil
}

// fetch copies the output of a job that has ended with an error, or none, and returns what
// the command ends with.
func (f *fetchFlags) fetch(ctx context.Context, p *Program, s *session, id string, ended error) error {
	var exit *Exit
	if f.folder == "" || ended != nil && (f.on != fetchAny || !errors.As(ended, &exit)) || ctx.Err() != nil {
		return ended
	}
	path := p.fromHere(f.folder)
	err := p.copyInto(ctx, s, path, f.folder, f.force, func(ctx context.Context, c *copier) error {
		return c.copyFolder(ctx, jobPlace{Output: client.Output{Job: id}}, "")
	})
	if err == nil || ended != nil && fault.CodeOf(err) == fault.NotFound { // it never started
		return ended
	}
	err = fmt.Errorf("the output of job %s was not fetched: %w; `dsvm cp -r job:%s %s` tries again", id, s.explain(err), id, f.folder)
	if ended != nil {
		p.Say("%s", message(err))
		return ended
	}
	return err
}
