package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"dsvmpools/shared/wire"
)

func poolCommand(p *Program) *cobra.Command {
	c := noun("pool", "Make, change, look at and delete pools",
		poolApply(p), poolList(p), poolShow(p), poolExplain(p), poolResume(p), poolDelete(p))
	c.Example = `  dsvm pool apply -f pool.yaml
  dsvm pool list
  dsvm pool explain cpu`
	return c
}

func poolApply(p *Program) *cobra.Command {
	var file string
	var check, dryRun bool
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create a pool, or change it to what a file says",
		Long: `Create a pool, or change it to what a file says (YAML or JSON; - is standard
input). Applying the same file again changes nothing. Prints the pool's name.

With --check, Azure is asked first whether it would make the pool's nodes: for
each size it makes a scale set without instances and deletes it, which proves
image, subnet, identity, key and size for nothing and takes half a minute. What
it says goes to standard error; after a refusal nothing is applied, and the exit
code is 1.

With --dry-run nothing is written. It prints what would change, field by field,
and what that would end: nodes that leave or are replaced, jobs that could never
run, a schedule that takes the pool down, limits that are lower.`,
		Example: `  dsvm pool apply -f pool.yaml
  dsvm pool apply -f pool.yaml --check
  dsvm pool apply -f pool.yaml --dry-run
  dsvm pool apply -f - < pool.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return WrongUse("name the file that describes the pool: `dsvm pool apply -f FILE`")
			}
			d, err := p.readDocument(file)
			if err != nil {
				return err
			}
			body, err := d.encode()
			if err != nil {
				return err
			}
			if check {
				if err := p.checkPool(c.Context(), d, body); err != nil {
					return err
				}
			}
			if dryRun {
				return p.planPool(c.Context(), d, body)
			}
			applied, err := ask(c.Context(), p, "applying the pool", func(ctx context.Context, s *session) (wire.Pool, error) {
				applied, err := s.Apply(ctx, body)
				return applied, d.locate(err)
			})
			if err != nil {
				return err
			}
			for _, warning := range applied.Warnings {
				p.Say("%s", warning)
			}
			return p.answer(applied, applied.Name)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file that describes the pool; - is standard input")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would change, and what that would end")
	c.Flags().BoolVar(&check, "check", false, "ask Azure first whether it would make the nodes")
	return c
}

// checkPool asks what Azure would say to a pool, and shows it on standard error. The error
// says that it refuses.
func (p *Program) checkPool(ctx context.Context, d *document, body []byte) error {
	rows, err := ask(ctx, p, "asking Azure for the pool's sizes", func(ctx context.Context, s *session) ([]wire.Check, error) {
		rows, err := s.Check(ctx, body)
		return rows, d.locate(err)
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		line := fmt.Sprintf("dsvm: %s: %s: %s", row.Check, row.State, row.Detail)
		if row.State != wire.CheckOK && row.Mend != "" {
			line += "\n  -> " + row.Mend
		}
		for text := range strings.Lines(line) {
			fmt.Fprintln(p.Err, plain(strings.TrimRight(text, "\n")))
		}
	}
	if failures(rows) != nil {
		return errors.New("the pool's nodes are refused by Azure, and nothing was applied")
	}
	return nil
}

func poolExplain(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "explain NAME", Short: "Say why a pool has the size it has", Args: exactly("the NAME of a pool"),
		Example:           "  dsvm pool explain cpu",
		ValidArgsFunction: firstOf(p.completePools),
		RunE: askAbout(p, "asking about pool", (*session).ExplainPool, func(e wire.PoolExplanation) error {
			return p.lines(fmt.Sprintf("%s: %s", e.State, e.Reason), waitsFor(e.Unblocks))
		}),
	}
}

func poolResume(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME", Short: "Have a pool ask for nodes again", Args: exactly("the NAME of a pool"),
		Long: `Have a pool ask for nodes again. When nodes do not come up, or Azure refuses them,
a pool pauses (dsvm pool explain says why). This ends the pause; of a pool without
one it changes nothing. Prints the pool's name.`,
		Example:           "  dsvm pool resume cpu",
		ValidArgsFunction: firstOf(p.completePools),
		RunE:              askAbout(p, "resuming pool", (*session).Resume, func(pool wire.Pool) error { return p.lines(pool.Name) }),
	}
}

// poolColumns are those of a list of pools.
const poolColumns = "NAME ?5KIND *STATE ?1NODES ?2<QUEUED ?3<RUNNING ?4<WANTED REASON"

func poolList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all pools", Args: cobra.NoArgs,
		Example: "  dsvm pool list\n  dsvm pool list -o json",
		RunE: showList(
			p,
			"asking for the pools",
			(*session).Pools,
			"no pools; `dsvm pool apply -f FILE` makes one",
			func(pools []wire.Pool) *table {
				t := newTable(poolColumns)
				for _, pool := range pools {
					t.add(pool.Name, pool.Kind, poolState(pool), nodesText(pool.Nodes), pool.Queued, pool.Running, pool.Wanted, pool.Reason)
				}
				return t
			},
		),
	}
}

// poolState is a pool's state as a table shows it: what holds the pool now comes first.
func poolState(pool wire.Pool) string {
	if pool.Down && pool.State != wire.PoolDeleting {
		return "down"
	}
	return string(pool.State)
}

// nodesText is how many nodes there are, and what those do that are not ready.
func nodesText(n wire.NodeCounts) string {
	var parts []string
	for _, part := range []struct {
		count int
		state string
	}{
		{n.Creating, "creating"},
		{n.Booting, "booting"},
		{n.Ready, "ready"},
		{n.Busy, "busy"},
		{n.Draining, "draining"},
		{n.Deleting, "deleting"},
		{n.Quarantined, "quarantined"},
		{n.Other - n.Quarantined, "other"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.state))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

func poolShow(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show one pool", Args: exactly("the NAME of a pool"),
		Example:           "  dsvm pool show cpu\n  dsvm pool show cpu -o json",
		ValidArgsFunction: firstOf(p.completePools),
		RunE:              askAbout(p, "asking for pool", (*session).Pool, p.showPool),
	}
}

func (p *Program) showPool(pool wire.Pool) error {
	err := p.facts([][2]string{
		{"name", pool.Name}, {"kind", pool.Kind}, {"state", poolState(pool)}, {"reason", pool.Reason},
		{"nodes", nodesText(pool.Nodes)}, {"wanted", fmt.Sprint(pool.Wanted)},
		{"queued", fmt.Sprint(pool.Queued)}, {"running", fmt.Sprint(pool.Running)},
	})
	if err != nil {
		return err
	}
	if len(pool.Rungs) > 0 {
		fmt.Fprintln(p.Out, "ladder")
		t := newTable("SIZE ?CAPACITY ?2<NODES BLOCKED")
		for _, r := range pool.Rungs {
			kind, blocked := "regular", r.Blocked
			if r.Spot {
				kind = "spot"
			}
			if blocked != "" {
				blocked = fmt.Sprintf("until %s: %s", p.at(r.Until), blocked)
			}
			t.add(r.Size, kind, r.Nodes, blocked)
		}
		if err := t.write(p, "  "); err != nil {
			return err
		}
	}
	if pool.Spec == nil {
		return nil
	}
	return p.spec(pool.Spec)
}

// answer prints a thing as JSON, or lines that describe it.
func (p *Program) answer(v any, lines ...string) error {
	if p.output == outputJSON {
		return p.json(v)
	}
	return p.lines(lines...)
}

// lines prints lines, except empty ones.
func (p *Program) lines(lines ...string) error {
	for _, line := range lines {
		if line == "" {
			continue
		}
		if _, err := fmt.Fprintln(p.Out, plain(p.localTimes(line))); err != nil {
			return err
		}
	}
	return nil
}

// list prints things as a JSON array or as a table; of none, a table says so
// where it does not get into a script's way.
func (p *Program) list(items any, t *table, none string) error {
	if p.output == outputJSON {
		return p.json(items)
	}
	if len(t.rows) == 0 {
		p.Say("%s", none)
		return nil
	}
	return t.write(p, "")
}

// facts prints names with values, leaving out what is empty.
func (p *Program) facts(facts [][2]string) error {
	width := 0
	for _, f := range facts {
		width = max(width, len(f[0]))
	}
	for _, f := range facts {
		if f[1] == "" {
			continue
		}
		value := plain(p.localTimes(f[1]))
		if f[0] == "state" {
			if value = people(value); p.Color {
				value = paint(value)
			}
		}
		if _, err := fmt.Fprintf(p.Out, "%-*s  %s\n", width, f[0], value); err != nil {
			return err
		}
	}
	return nil
}

// spec prints a document under a heading, as the file it could have come from.
func (p *Program) spec(v any) error {
	text, err := yamlOf(v)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.Out, "spec"); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(p.Out, "  "+plain(strings.TrimRight(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// yamlOf writes as YAML what has names in JSON only, in their order.
func yamlOf(v any) (string, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var n yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(body, &n); err != nil {
		return "", err
	}
	blockStyle(&n)
	var out strings.Builder
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return "", err
	}
	return out.String(), e.Close()
}

// blockStyle undoes the braces and quotes that came from JSON.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, below := range n.Content {
		blockStyle(below)
	}
}
