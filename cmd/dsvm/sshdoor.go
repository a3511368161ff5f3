package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/way"
	"dsvmpools/shared/wire"
)

// sshDoor is the ProxyCommand of ssh: it connects to the node of a session, by the ways that
// `dsvm session ready` has found, and passes bytes between ssh and there.
func sshDoor(p *cli.Program) *cobra.Command {
	var host, entry string
	c := &cobra.Command{
		Use: "door --for POOL" + wire.HostSuffix, Hidden: true, Args: cobra.NoArgs,
		Short: "Connect ssh with a session", Example: "  dsvm door --for lab.dsvm",
		RunE: func(c *cobra.Command, _ []string) error {
			if entry != "" {
				return passEntry(c.Context(), p, entry)
			}
			way, said, err := p.ReadDoor(host)
			switch {
			case err != nil:
				return err
			case way.Closed != "" && said: // the person has just read it
				return &cli.Exit{Code: 1}
			case way.Closed != "":
				return errors.New(way.Closed)
			}
			within, closed := waitFor(way.Doors)
			node, err := dialDoor(c.Context(), host, way.Doors, within, closed...)
			if err != nil {
				p.ForgetDoor(host) // the session may have ended: the next ssh asks the instance
				return fmt.Errorf("%w; try again: the session is looked up then", err)
			}
			return pass(c.Context(), node, p.In, p.Out)
		},
	}
	c.Flags().StringVar(&host, "for", "", "name of the pool for ssh")
	c.Flags().StringVar(&entry, "entry", "", "name of the folder with the way to a job")
	return c
}

// passEntry connects ssh with a running job, whose node has just been asked to open its door.
func passEntry(ctx context.Context, p *cli.Program, entry string) error {
	doors, err := p.ReadEntry(entry)
	if err != nil {
		return err
	}
	// Until the door knows of the job it refuses who names it: it may be there for another one.
	node, err := dialDoor(ctx, "the job", doors, entryOpensWithin, fault.NotFound, fault.Forbidden)
	if err != nil {
		return fmt.Errorf("%w; if the job still runs, try again", err)
	}
	return pass(ctx, node, p.In, p.Out)
}

// The door of a node opens within seconds after a session is ready.
const (
	doorOpensWithin = 5 * time.Second
	// entryOpensWithin is the same of a node that has to hear first that somebody comes.
	entryOpensWithin = 30 * time.Second
	// balancerOpensWithin is the same of a balancer, which leads to no node before its probe has
	// met it: every 5 seconds.
	balancerOpensWithin = 30 * time.Second
	doorPause           = 200 * time.Millisecond
)

// waitFor is how long a session that is ready may have no open door, and the codes of its answers
// until then.
func waitFor(doors []wire.Door) (within time.Duration, closed []fault.Code) {
	if slices.ContainsFunc(doors, func(at wire.Door) bool { return at.Kind == wire.DoorBalancer }) {
		return balancerOpensWithin, []fault.Code{fault.NotFound, fault.Internal}
	}
	return doorOpensWithin, []fault.Code{fault.NotFound}
}

// dialDoor connects by the first way that leads to the node, and waits a little for a door that
// is not open yet: as long as it answers with one of some codes.
func dialDoor(ctx context.Context, host string, doors []wire.Door, within time.Duration, closed ...fault.Code) (net.Conn, error) {
	for until := time.Now().Add(within); ; {
		node, err := dialOnce(ctx, host, doors)
		if err == nil || !slices.Contains(closed, fault.CodeOf(err)) || time.Now().After(until) || patience.Wait(ctx, doorPause) != nil {
			return node, err
		}
	}
}

// dialOnce tries the ways in their order. Of several that fail, the error is that of the one that
// may lead there in a moment, and otherwise of the first.
func dialOnce(ctx context.Context, host string, doors []wire.Door) (net.Conn, error) {
	var failed error
	for _, at := range doors {
		node, err := dialWay(ctx, at)
		if err == nil {
			return node, nil
		}
		if err != errOtherWay && (failed == nil || fault.CodeOf(failed) != fault.NotFound && fault.CodeOf(err) == fault.NotFound) {
			failed = err
		}
	}
	if failed == nil {
		failed = errors.New("the instance knows no way that this program can go; bring both to one release")
	}
	return nil, fmt.Errorf("%s cannot be reached: %w", host, notIn(failed))
}

// errOtherWay is the error of a way that a later release may know.
var errOtherWay = errors.New("this program does not know the way")

func dialWay(ctx context.Context, at wire.Door) (net.Conn, error) {
	switch at.Kind {
	case wire.DoorRelay:
		return relay.Dial(ctx, at.URL, at.Token)
	case wire.DoorDirect, wire.DoorBalancer:
		return way.Dial(ctx, at.Address, at.Token)
	}
	return nil, errOtherWay
}

// notIn says for people why a way does not lead in. Its code stays.
func notIn(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	switch f.Code {
	case fault.NotFound:
		return fault.New(f.Code, "", "its node is not listening: the session may have ended")
	case fault.Forbidden:
		return fault.New(f.Code, "", "its node does not let you in: the session has ended, or the way there is too old")
	case fault.Throttled:
		return fault.New(f.Code, "", "its node lets nobody in just now: the session is ending, or has too many connections")
	}
	return err
}

// pass copies bytes both ways until the node has closed its side: what ssh has still to read
// then is written. When ssh closes its side, there is nobody for what comes back.
func pass(ctx context.Context, node net.Conn, in io.Reader, out io.Writer) error {
	defer node.Close()
	stop := context.AfterFunc(ctx, func() { node.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(node, in) // its error is that of the other direction, too
		node.Close()
	}()
	if _, err := io.Copy(out, node); err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
		return &cli.Exit{Code: 1} // ssh says that the connection is closed
	}
	return nil
}
