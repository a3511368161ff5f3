package cli

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func auditCommand(p *Program) *cobra.Command {
	var q wire.AuditQuery
	var since, until string
	limit := wire.DefaultLimit
	c := &cobra.Command{
		Use: "audit", Short: "Show who has changed what, the newest first", Args: cobra.NoArgs,
		Long: `Show who has changed what over the HTTP API, the newest first: of the last 30 days,
unless --since says otherwise. What somebody had no right to is there too, with
status 403. It is for operators.`,
		Example: "  dsvm audit\n  dsvm audit --user ann --since 7d\n  dsvm audit --target /api/pools -o json",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := checkLimit(limit); err != nil {
				return err
			}
			if q.Since, q.Until, err = p.period([2]string{"--since", since}, [2]string{"--until", until}, p.zone()); err != nil {
				return err
			}
			q.Limit = limit + 1
			all, err := ask(c.Context(), p, "asking for the audit trail", func(ctx context.Context, s *session) ([]wire.AuditEntry, error) {
				return s.Audit(ctx, q)
			})
			if err != nil {
				return err
			}
			if len(all) > limit {
				all = all[:limit]
				if p.output != outputJSON {
					p.Say("the latest %s shown, and there are more; `--limit` shows more", thousands(limit))
				}
			}
			t := newTable("WHEN WHO ?FROM ?METHOD TARGET STATUS ?MADE")
			for _, e := range all {
				status := "not known"
				if e.Status != 0 {
					status = strconv.Itoa(e.Status)
				}
				t.add(cell{p.at(&e.At), p.age(&e.At).short}, cmp.Or(e.User, e.Login, e.ID, wire.KeyUser), e.From, e.Method,
					readableTarget(e.Target), status, e.Made)
			}
			return p.list(all, t, "nothing was changed in this time")
		},
	}
	c.Flags().StringVar(&q.User, "user", "", "only of this person, by name, login or object id; key = of programs")
	c.Flags().StringVar(&q.Target, "target", "", "only requests whose path has this in it")
	c.Flags().StringVar(&since, "since", "", "only from then on: 7d, 2026-01-31, a time")
	c.Flags().StringVar(&until, "until", "", "only before then")
	c.Flags().IntVar(&limit, "limit", limit, "at most so many")
	return c
}

// readableTarget is a path with its parameters as a person has typed them. One that cannot be read, since it
// was cut or never was one, stays as it is.
func readableTarget(target string) string {
	path, query, _ := strings.Cut(target, "?")
	var parts []string
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			return target
		}
		if part != "" {
			parts = append(parts, name+"="+decoded)
		}
	}
	return strings.Join(append([]string{path}, parts...), " ")
}

// sortedTeams lists the teams in which a caller has a role.
func sortedTeams(me wire.Me) []string { return slices.Sorted(maps.Keys(me.Teams)) }
