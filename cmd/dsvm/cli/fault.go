package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/local/chaos"
)

func faultCommand(p *Program) *cobra.Command {
	c := noun("fault", "Make the local servers fail the way the cloud does", faultAdd(p), faultList(p), faultClear(p), faultSeed(p),
		faultInstance(p, "evict", "Take an instance back, with the notice that the cloud gives", "asked to leave", chaos.Client.Evict),
		faultInstance(p, "remove", "Delete an instance without the knowledge of its pool", "deleted", chaos.Client.Kill))
	c.Long = `Make the local servers fail the way the cloud does, by rule and with a seed, so
that a run that failed can be had again. Only an instance of dsvm up can do this.
docs/local.md lists what can go wrong where.`
	c.Example = "  dsvm fault add detach servicebus/receive/jobs --probability 0.1\n  dsvm fault list\n  dsvm fault clear"
	return c
}

// control runs something against the control service of the instance.
func (p *Program) control(ctx context.Context, what string, fn func(context.Context, chaos.Client) error) error {
	return p.with(ctx, what, func(ctx context.Context, s *session) error {
		if s.instance.Control == "" {
			return errors.New("this instance takes no faults: only one that `dsvm up` runs on this machine does")
		}
		return fn(ctx, chaos.Client{URL: s.instance.Control, Key: s.instance.ControlKey})
	})
}

func faultAdd(p *Program) *cobra.Command {
	var d chaos.Document
	var delay, retryAfter time.Duration
	c := &cobra.Command{
		Use:   "add FAULT TARGET",
		Short: "Add a rule",
		Long: fmt.Sprintf(`Add a rule: from now on, requests that match TARGET meet FAULT.

TARGET is SERVER/OPERATION/ENTITY. Each part may be a pattern with * and ?; parts
that are left out match everything.

Servers: %s.

Faults: %s.`, strings.Join(chaos.Servers, ", "), faultNames()),
		Example: `  dsvm fault add detach servicebus/receive/jobs --probability 0.1
  dsvm fault add lose tables/transaction --count 3
  dsvm fault add refuse compute/allocate --code AllocationFailed --count 1
  dsvm fault add lag compute/list --delay 10s`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return WrongUse("%s takes a fault and a target, like `dsvm fault add detach servicebus/receive`", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return strings.Split(faultNames(), ", "), cobra.ShellCompDirectiveNoFileComp
			case 1:
				return words(chaos.Servers,
					func(s string) string { return s + "/" }), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			d.Do, d.Target, d.Delay, d.RetryAfter = chaos.Action(args[0]), args[1], "", ""
			if delay != 0 {
				d.Delay = delay.String()
			}
			if retryAfter != 0 {
				d.RetryAfter = retryAfter.String()
			}
			if _, err := d.Injection(); err != nil {
				return WrongUse("%s", err)
			}
			var s chaos.Status
			err := p.control(c.Context(), "adding a rule", func(ctx context.Context, f chaos.Client) (err error) {
				s, err = f.Add(ctx, d)
				return err
			})
			if err != nil {
				return err
			}
			return p.faults(s)
		},
	}
	f := c.Flags()
	f.Float64Var(&d.Probability, "probability", 0, "of each request to go wrong, between 0 and 1 (default: every one)")
	f.IntVar(&d.After, "after", 0, "requests to leave alone first")
	f.IntVar(&d.Count, "count", 0, "stop after this many hits (default: never)")
	f.Var(length{&delay}, "delay", "how late, for delay, lag and evict")
	f.Var(length{&retryAfter}, "retry-after", "the pause that a throttled request is asked for")
	f.StringVar(&d.Code, "code", "", "the service's own error code, for refuse (default: its usual one)")
	f.IntVar(&d.Amount, "amount", 0, "how many are granted, for partial")
	return c
}

func faultNames() string {
	return strings.Join(namesOf(chaos.Actions), ", ")
}

func faultList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the rules in force, and what they did", Args: cobra.NoArgs, Example: "  dsvm fault list",
		RunE: func(c *cobra.Command, _ []string) error {
			return p.faultStatus(c, "asking for the rules", chaos.Client.Status)
		},
	}
}

func faultClear(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "clear [ID]", Short: "Take one rule away, or all", Args: cobra.MaximumNArgs(1), Example: "  dsvm fault clear 2\n  dsvm fault clear",
		RunE: func(c *cobra.Command, args []string) error {
			return p.faultStatus(c, "removing rules", func(f chaos.Client, ctx context.Context) (chaos.Status, error) {
				return f.Remove(ctx, strings.Join(args, ""))
			})
		},
	}
}

func faultSeed(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "seed NUMBER", Short: "Start the draws of all rules again from NUMBER", Args: exactly("a whole number"),
		Example: "  dsvm fault seed 42",
		RunE: func(c *cobra.Command, args []string) error {
			seed, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return WrongUse("%q is no seed; it is a whole number of at most 64 bits", args[0])
			}
			return p.faultStatus(c, "seeding", func(f chaos.Client, ctx context.Context) (chaos.Status, error) { return f.Seed(ctx, seed) })
		},
	}
}

// faultStatus runs something that answers with the rules, and shows them.
func (p *Program) faultStatus(c *cobra.Command, what string, fn func(chaos.Client, context.Context) (chaos.Status, error)) error {
	var s chaos.Status
	err := p.control(c.Context(), what, func(ctx context.Context, f chaos.Client) (err error) {
		s, err = fn(f, ctx)
		return err
	})
	if err != nil {
		return err
	}
	return p.faults(s)
}

// faults prints the rules as a list. The seed goes to standard error.
func (p *Program) faults(s chaos.Status) error {
	t := newTable("ID FAULT TARGET ?3<PROBABILITY ?5<AFTER ?4<COUNT ?2<SEEN ?1<HITS DETAIL")
	for _, r := range s.Injections {
		probability, count := "always", ""
		if r.Probability > 0 {
			probability = fmt.Sprint(r.Probability)
		}
		if r.Count > 0 {
			count = fmt.Sprint(r.Count)
		}
		t.add(r.ID, r.Do, r.Target, probability, r.After, count, r.Seen, r.Hits, faultDetail(r))
	}
	p.Say("seed %d", s.Seed)
	return p.list(s.Injections, t, "no rules; everything goes well")
}

// faultDetail is what a rule says beyond whom it hits.
func faultDetail(d chaos.Document) string {
	var parts []string
	for _, part := range []struct{ name, value string }{{"delay", d.Delay}, {"retry after", d.RetryAfter}, {"code", d.Code}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	if d.Do == chaos.Partial {
		parts = append(parts, fmt.Sprintf("grants %d", d.Amount))
	}
	return strings.Join(parts, ", ")
}

// faultInstance is a command that acts on one instance at once.
func faultInstance(p *Program, verb, short, done string, do func(chaos.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE", Short: short, Args: exactly("the name of a node"),
		Example:           "  dsvm fault " + verb + " dsvm-cpu-d4s-v5_3",
		ValidArgsFunction: firstOf(p.completeNodes),
		RunE: func(c *cobra.Command, args []string) error {
			err := p.control(c.Context(), verb, func(ctx context.Context, f chaos.Client) error { return do(f, ctx, args[0]) })
			if err != nil {
				return err
			}
			return p.answer(map[string]string{"name": args[0], "state": done}, args[0]+" was "+done)
		},
	}
}
