//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// tell prints what became of the sessions, and how long each part took.
func (d *peopleDemo) tell(ctx context.Context) error {
	w := tabwriter.NewWriter(d.p.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(d.p.Out)
	fmt.Fprintln(w, "USER\tUID\tNODE\tENDED BY\tREASON")
	for _, v := range d.people {
		s, err := d.client.Session(ctx, v.session.ID)
		if err != nil {
			return err
		}
		by, why := "", s.Reason
		if s.End != nil {
			by, why = s.End.By, s.End.Detail
		}
		uid := s.UID
		if v.owns {
			uid = os.Getuid()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", v.name, uid, s.Node, cmp.Or(by, "-"), why)
	}
	_ = w.Flush() // to a terminal
	fmt.Fprintln(d.p.Out)
	w = tabwriter.NewWriter(d.p.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PHASE\tTIME")
	for _, p := range d.phases {
		fmt.Fprintf(w, "%s\t%s\n", p.what, p.took.Round(time.Millisecond))
	}
	_ = w.Flush() // to a terminal
	d.say("your own: `dsvm up`, then `dsvm pool apply -f docs/examples/lab.yaml` and `dsvm connect lab` in another terminal")
	fmt.Fprintln(d.p.Out, "pool lab: 0 nodes")
	return nil
}
