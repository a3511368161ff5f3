package main

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
)

// randomCalls is how many operations are drawn; seed decides which.
const (
	randomCalls = 3000
	seed        = 20260102
	shownLimit  = 60 // differences that are printed
)

//go:embed differences.txt
var differencesText string

// difference is one that is known: in the calls whose name begins so, the two
// servers answer so, and the reason is that of the documentation.
type difference struct {
	call, ours, theirs, why string
	seen                    int
}

func (d *difference) is(name, ours, theirs string) bool {
	return like(d.call, name) && like(d.ours, strings.TrimSpace(ours)) && like(d.theirs, strings.TrimSpace(theirs))
}

// like compares with a pattern in which * stands for anything.
func like(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		i := strings.Index(text, p)
		if i < 0 {
			return false
		}
		text = text[i+len(p):]
	}
	return strings.HasSuffix(text, parts[last])
}

// readDifferences reads blocks of lines "what: text".
func readDifferences(text string) ([]*difference, error) {
	var all []*difference
	var d *difference
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		what, rest, found := strings.Cut(line, ":")
		rest = strings.TrimSpace(rest)
		switch {
		case line == "" || line[0] == '#':
			continue
		case what == "call":
			d = &difference{call: rest}
			all = append(all, d)
		case !found || d == nil:
			return nil, fmt.Errorf("differences.txt: what does %q mean?", line)
		case what == "ours":
			d.ours = rest
		case what == "theirs":
			d.theirs = rest
		case what == "why":
			d.why = rest
		default:
			return nil, fmt.Errorf("differences.txt: what does %q mean?", line)
		}
	}
	for _, d := range all {
		d.ours, d.theirs = strings.TrimSpace(d.ours), strings.TrimSpace(d.theirs)
		if d.ours == "" || d.theirs == "" || d.why == "" {
			return nil, fmt.Errorf("differences.txt: %q needs ours, theirs and why", d.call)
		}
	}
	return all, nil
}

// comparison sends calls to both and counts.
type comparison struct {
	ours, theirs   *target
	known          []*difference
	passed, failed int
}

func (c *comparison) run(ctx context.Context, one call) {
	var ours, theirs outcome
	var both sync.WaitGroup
	both.Go(func() { ours = one.send(ctx, c.ours) })
	both.Go(func() { theirs = one.send(ctx, c.theirs) })
	both.Wait()
	a, b := differ(ours, theirs)
	if a == b {
		c.passed++
		return
	}
	for _, d := range c.known {
		if d.is(one.name, a, b) {
			d.seen++
			c.passed++
			return
		}
	}
	if c.failed++; c.failed <= shownLimit {
		fmt.Printf("DIFFERS %s\n  ours:   %s\n  theirs: %s\n", one.name, a, b)
	}
}

// runDifferences sends the same operations to the local tables and to Azurite:
// first the cases at the limits, each in a table of its own, then drawn ones.
func runDifferences(ctx context.Context) (bool, error) {
	known, err := readDifferences(differencesText)
	if err != nil {
		return false, err
	}
	c := comparison{known: known}
	stop, err := c.start(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	for i, one := range cases() {
		table := fmt.Sprintf("case%03d", i)
		if err := c.createTable(ctx, table); err != nil {
			return false, err
		}
		c.run(ctx, one.in(table))
	}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, seed)), table: "random"}
	if err := c.createTable(ctx, g.table); err != nil {
		return false, err
	}
	for range randomCalls {
		c.run(ctx, g.next())
	}
	for _, d := range known {
		if d.seen == 0 {
			c.failed++
			fmt.Printf("UNSEEN  %s: ours %s, theirs %s: it no longer differs; take it off the list\n", d.call, d.ours, d.theirs)
		}
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fmt.Fprintf(os.Stderr, "%d operations, %d known differences\n", c.passed, len(known))
	return verdict(c.passed, c.failed), nil
}

func (c *comparison) start(ctx context.Context) (stop func(), err error) {
	server, stopLocal, err := startLocal()
	if err != nil {
		return nil, err
	}
	address, stopAzurite, err := startAzurite(ctx)
	if err != nil {
		stopLocal()
		return nil, err
	}
	stop = func() {
		stopLocal()
		stopAzurite()
	}
	if c.ours, err = newTarget("local", "http://"+server.Addr()+"/"+account); err == nil {
		c.theirs, err = newTarget("Azurite", address)
	}
	if err != nil {
		stop()
	}
	return stop, err
}

func (c *comparison) createTable(ctx context.Context, name string) error {
	for _, t := range []*target{c.ours, c.theirs} {
		if _, err := t.service.CreateTable(ctx, name, nil); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}
