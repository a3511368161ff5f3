package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func rejectedCommand(p *Program) *cobra.Command {
	c := noun("rejected", "Look at messages that were rejected, send them again, delete them",
		rejectedList(p), rejectedShow(p), rejectedResubmit(p), rejectedDelete(p))
	c.Long = `Look at messages that were rejected, send them again, delete them. A message that
cannot be taken as a job or a pool lies on the queue "rejected" with the reason,
until somebody takes it or 30 days have passed. A document that is refused over
HTTP, or by dsvm job submit, never gets there: its sender has the answer.`
	c.Example = `  dsvm rejected list
  dsvm rejected show 17
  dsvm rejected resubmit 17 -f corrected.yaml
  dsvm rejected delete 17`
	return c
}

func rejectedList(p *Program) *cobra.Command {
	var f wire.RejectedFilter
	limit := wire.DefaultLimit
	c := &cobra.Command{
		Use: "list", Short: "List the rejected messages, the oldest first", Args: cobra.NoArgs,
		Long: `List the messages on the queue "rejected", the oldest first. Looking takes none of
them from anybody. KEY names a message for the other commands.`,
		Example: "  dsvm rejected list\n  dsvm rejected list --pool cpu -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			all, err := ask(c.Context(), p, "asking for the rejected messages", func(ctx context.Context, s *session) ([]wire.Rejected, error) {
				return s.Rejected(ctx, f, limit+1)
			})
			if err != nil {
				return err
			}
			if len(all) > limit {
				all = all[:limit]
				if p.output != outputJSON {
					p.Say("the oldest %s shown, and there are more; `--limit` shows more", thousands(limit))
				}
			}
			t := newTable("<KEY ?SOURCE JOB ?POOL <REJECTED FIELD REASON")
			for _, m := range all {
				t.add(m.Key, m.Source, cmp.Or(m.Job, m.MessageID), m.Pool, p.age(m.RejectedAt), m.Field, m.Reason)
			}
			return p.list(all, t, "no rejected messages")
		},
	}
	c.Flags().StringVar(&f.Source, "source", "", "only those of this queue: jobs, pools, ...")
	c.Flags().StringVar(&f.Pool, "pool", "", "only those whose document names this pool")
	c.Flags().StringVar(&f.Job, "job", "", "only those that have, or would have, this id as a job")
	c.Flags().IntVar(&limit, "limit", limit, "at most so many")
	complete(c, "pool", p.completePools)
	complete(c, "source", cobra.FixedCompletions([]string{"jobs", "pools", "pool-events", "node-events"}, cobra.ShellCompDirectiveNoFileComp))
	complete(c, "job", p.completeJobs)
	return c
}

func rejectedShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Short: "Show one rejected message, with its body", Args: exactly("the KEY of a rejected message"),
		Long: `Show one rejected message: why it was rejected, what its sender wrote on it, and
the first 64 KiB of its body.`,
		Example:           "  dsvm rejected show 17\n  dsvm rejected show 17 -o json",
		ValidArgsFunction: firstOf(p.completeRejected),
		RunE:              askAbout(p, "asking for rejected message", (*session).RejectedMessage, p.showRejected),
	}
}

func (p *Program) showRejected(m wire.Rejected) error {
	err := p.facts([][2]string{
		{"key", m.Key}, {"source", m.Source}, {"reason", m.Reason}, {"field", m.Field}, {"rejected", p.at(m.RejectedAt)},
		{"job", m.Job}, {"pool", m.Pool}, {"message id", m.MessageID}, {"content type", m.ContentType},
		{"correlation id", m.CorrelationID}, {"subject", m.Subject}, {"to", m.To}, {"reply to", m.ReplyTo},
		{"reply to session", m.ReplyToSessionID}, {"session", m.SessionID}, {"size", fmt.Sprintf("%d bytes", m.Size)},
	})
	if err != nil {
		return err
	}
	if len(m.Properties) > 0 {
		fmt.Fprintln(p.Out, "properties")
		t := newTable("NAME VALUE")
		for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
			value, _ := m.Properties[name].(string)
			if _, isText := m.Properties[name].(string); !isText {
				text, _ := json.Marshal(m.Properties[name])
				value = string(text)
			}
			t.add(name, value)
		}
		if err := t.write(p, "  "); err != nil {
			return err
		}
	}
	if m.Body == nil || *m.Body == "" {
		return nil
	}
	heading := "body"
	if m.Encoding == wire.EncodingBase64 {
		heading += " (no text; in base64)"
	}
	fmt.Fprintln(p.Out, heading)
	for line := range strings.Lines(printable([]byte(*m.Body))) {
		if _, err := fmt.Fprint(p.Out, "  "+line); err != nil {
			return err
		}
	}
	if m.Cut {
		fmt.Fprintf(p.Out, "  ... (%d bytes in all)\n", m.Size)
	}
	return nil
}

func rejectedResubmit(p *Program) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "resubmit KEY [-f FILE]",
		Short: "Submit a rejected message again, corrected or as it is",
		Args:  exactly("the KEY of a rejected message"),
		Long: `Submit a rejected message again: as it is, when the cause is mended, or with the
corrected document in a file (YAML or JSON; - is standard input). When it is taken
the message is removed. When it is refused again the reason is printed, and the
message stays. Doing it twice makes no second job. Prints the id of the job, or the
name of the pool.`,
		Example:           "  dsvm rejected resubmit 17\n  dsvm rejected resubmit 17 -f corrected.yaml",
		ValidArgsFunction: firstOf(p.completeRejected),
		RunE: func(c *cobra.Command, args []string) error {
			var body []byte
			locate := func(err error) error { return err }
			if file != "" {
				d, err := p.readDocument(file)
				if err != nil {
					return err
				}
				if body, err = d.encode(); err != nil {
					return err
				}
				locate = d.locate
			}
			out, err := ask(c.Context(), p, "resubmitting message "+args[0], func(ctx context.Context, s *session) (wire.Resubmitted, error) {
				out, err := s.Resubmit(ctx, args[0], body)
				return out, locate(err)
			})
			if err != nil {
				return err
			}
			return p.answer(out, cmp.Or(out.Job, out.Pool, out.Key))
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file with the corrected document; - is standard input")
	return c
}

func rejectedDelete(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "delete KEY...", Short: "Delete rejected messages", Args: severalOf("the KEY of a rejected message"),
		Long: `Delete rejected messages for good. What they asked for is not done. Prints the key
of each that is deleted; after a failure the others are tried all the same.`,
		Example:           "  dsvm rejected delete 17\n  dsvm rejected delete 17 18 19",
		ValidArgsFunction: eachOf(p.completeRejected),
		RunE: func(c *cobra.Command, args []string) error {
			type deleted struct {
				Key string `json:"key"`
			}
			done := []deleted{}
			var failed error
			for _, key := range args {
				err := p.with(c.Context(), "deleting rejected message "+key, func(ctx context.Context, s *session) error {
					return s.DeleteRejected(ctx, key)
				})
				switch {
				case err == nil:
					done = append(done, deleted{key})
				case failed == nil:
					failed = err
				default:
					p.report(c, err)
				}
			}
			if err := p.answer(done, words(done, func(d deleted) string { return d.Key })...); err != nil {
				return err
			}
			return failed
		},
	}
}

// completeRejected offers the keys of rejected messages.
func (p *Program) completeRejected(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.offer(c, func(ctx context.Context, s *session) ([]string, error) {
		all, err := s.Rejected(ctx, wire.RejectedFilter{}, wire.DefaultLimit)
		return words(all, func(m wire.Rejected) string { return m.Key + "\t" + cmp.Or(m.Job, m.Reason) }), err
	})
}
