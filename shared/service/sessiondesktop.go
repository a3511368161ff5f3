package service

import (
	"context"
	"crypto/rand"
	"slices"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/seal"
	"dsvmpools/shared/wire"
)

// Desktop returns what one connection to the desktop of a session needs. The password is the
// node's, sealed to the client's key: until it has come, Sealed is "", and the client asks again,
// which also asks the node again. See Certificate for who may.
func (s *Sessions) Desktop(ctx context.Context, id, publicKey string) (wire.SessionDesktop, error) {
	if err := seal.CheckPublic("publicKey", publicKey); err != nil {
		return wire.SessionDesktop{}, err
	}
	j, node, head, err := s.enter(ctx, id)
	if err != nil {
		return wire.SessionDesktop{}, err
	}
	of := head.Spec.Sessions
	entity := node.Entity(j.Spec.Pool)
	switch {
	case s.doors == nil:
		return wire.SessionDesktop{}, errNoDoors()
	case of == nil || of.Desktop == "":
		return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "pool %q has no desktops; an operator writes `desktop: rdp` below "+
			"`sessions` of its document, if its image has a server for RDP", j.Spec.Pool)
	case !slices.Contains(node.Features, protocol.FeatureDesktop):
		return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "the agent of node %q is an older one, which knows no desktops; "+
			"`dsvm session stop %s` and another session get a node that does", node.Name, j.Spec.Pool)
	case entity == "":
		return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "node %q has no place at the relay yet; try again in a minute", node.Name)
	}
	out := wire.SessionDesktop{User: j.Spec.User, Doors: []wire.Door{}}
	if j.Session.SealTo != publicKey || j.Session.Sealed == "" {
		failed := ""
		if j.Session.SealTo == publicKey {
			failed = j.Session.DesktopFault
		}
		if err := driveIfThere(ctx, s.driver, j.Spec.Pool, pool.Desktop{Order: j.Order, SealTo: publicKey}); err != nil {
			return wire.SessionDesktop{}, err
		}
		if failed != "" { // the next call finds what the node says now
			return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "node %q has no desktop for you: %s", node.Name, failed)
		}
		return out, nil
	}
	out.Sealed, out.Doors = j.Session.Sealed, s.doors.desktops(entity, j.ID)
	out.Ticket, err = signTicket(s.doors.ticketKey, ticket{
		Session: j.ID,
		User:    j.Spec.User,
		For:     relay.TicketDesktop,
		Expires: s.now().Add(ticketLife).Unix(),
		Nonce:   rand.Text(),
	})
	return out, err
}

// desktops are the ways for a person's program to the desktop of a session on a node.
func (d *Doors) desktops(entity, session string) []wire.Door {
	address, token := d.relay.SendDesktop(entity, session)
	return []wire.Door{{Kind: wire.DoorRelay, URL: address, Token: token}}
}
