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
	byRelay := desktopByRelay(&head.Spec, node)
	switch {
	case s.doors == nil:
		return wire.SessionDesktop{}, errNoDoors()
	case of == nil || of.Desktop == "":
		return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "pool %q has no desktops; an operator writes `desktop: rdp` below "+
			"`sessions` of its document, if its image has a server for RDP", j.Spec.Pool)
	case !slices.Contains(node.Features, protocol.FeatureDesktop):
		return wire.SessionDesktop{}, fault.New(fault.Conflict, "id", "the agent of node %q is an older one, which knows no desktops; "+
			"`dsvm session stop %s` and another session get a node that does", node.Name, j.Spec.Pool)
	case !byRelay && node.Missing[protocol.MissingSSH] != "":
		return wire.SessionDesktop{}, lacks(node, "SSH", node.Missing[protocol.MissingSSH])
	case byRelay && entity == "":
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
	if out.Sealed = j.Session.Sealed; !byRelay {
		out.Port = desktopPort
		return out, nil
	}
	out.Doors = s.doors.desktops(entity, j.ID)
	out.Ticket, err = signTicket(s.doors.ticketKey, ticket{
		Session: j.ID,
		User:    j.Spec.User,
		For:     relay.TicketDesktop,
		Expires: s.now().Add(ticketLife).Unix(),
		Nonce:   rand.Text(),
	})
	return out, err
}

// desktopPort is where the server for RDP of a node listens, on localhost.
const desktopPort = 3389

// desktopByRelay reports whether people come to the desktops of a pool by the relay. Where `access` prefers
// another way, they come by SSH, which has those ways: RDP alone would go over the network without
// anybody knowing the other end. Windows, and a node without SSH, have the relay.
func desktopByRelay(of *pool.Spec, node *pool.Node) bool {
	isFirst := len(of.Access) == 0 || of.Access[0] == pool.AccessRelay
	return isFirst || of.OS == pool.Windows || node.Missing[protocol.MissingSSH] != "" && slices.Contains(of.Access, pool.AccessRelay)
}

// desktops are the ways for a person's program to the desktop of a session on a node.
func (d *Doors) desktops(entity, session string) []wire.Door {
	address, token := d.relay.SendDesktop(entity, session)
	return []wire.Door{{Kind: wire.DoorRelay, URL: address, Token: token}}
}
