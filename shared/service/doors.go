package service

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/sshca"
	"dsvmpools/shared/way"
	"dsvmpools/shared/wire"
)

// Doors is how the owners of sessions come in: the relay that joins them with their nodes, and
// the keys by which a node knows them. It is the drive.Doors of the driver, too.
type Doors struct {
	ca        *sshca.Authority
	relay     *relay.Doors
	ticketKey ed25519.PrivateKey
}

// ticketPurpose is what the key that signs tickets is derived for. The app has the relay's key
// to send already, and no other secret has to be made, kept and renewed.
const ticketPurpose = "dsvmpools: tickets for browsers"

// NewDoors returns the doors of a deployment. Nothing is sent.
func NewDoors(ca *sshca.Authority, at *relay.Doors) (*Doors, error) {
	seed, err := hkdf.Key(sha256.New, []byte(at.SendKey), nil, ticketPurpose, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of tickets: %w", err)
	}
	return &Doors{ca: ca, relay: at, ticketKey: ed25519.NewKeyFromSeed(seed)}, nil
}

// Listen returns where a node listens; see drive.Doors.
func (d *Doors) Listen(ctx context.Context, entity string) (protocol.Door, error) {
	return d.relay.Listen(ctx, entity)
}

// Keys returns the public keys by which a node knows people; see drive.Doors.
func (d *Doors) Keys(ctx context.Context) (drive.DoorKeys, error) {
	ca, err := d.ca.PublicKey(ctx)
	if err != nil {
		return drive.DoorKeys{}, err
	}
	public := d.ticketKey.Public().(ed25519.PublicKey)
	return drive.DoorKeys{CAs: []string{ca}, Ticket: base64.StdEncoding.EncodeToString(public)}, nil
}

// wayFor is how long a way past the relay is good for: as long as a certificate.
const wayFor = 15 * time.Minute

// ways are the ways for a person's program to a session on a node, in the order of the pool's
// document. One that is not there now is left out.
func (d *Doors) ways(head *pool.Head, node *pool.Node, session string, now time.Time) ([]wire.Door, error) {
	all := []wire.Door{}
	access := head.Spec.Access
	if len(access) == 0 {
		access = []string{pool.AccessRelay}
	}
	for _, kind := range access {
		if kind == pool.AccessRelay {
			all = append(all, d.relayWays(head, node, session)...)
			continue
		}
		address, inside := wayTo(kind, head, node)
		if address == "" || !slices.Contains(node.Features, protocol.FeatureWays) {
			continue
		}
		token, err := way.Sign(d.ticketKey, way.Way{For: way.SSH, Session: session, Inside: inside, Expires: now.Add(wayFor).Unix()})
		if err != nil {
			return nil, err
		}
		all = append(all, wire.Door{Kind: kind, Address: address, Token: token})
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Conflict, "access", "no way of `access` of pool %q leads to node %q now; "+
			"try again in a minute, or have `relay` written there, too", head.Spec.Name, node.Name)
	}
	return all, nil
}

// relayWays is the way by the relay, if the node has a place there.
func (d *Doors) relayWays(head *pool.Head, node *pool.Node, session string) []wire.Door {
	entity := node.Entity(head.Spec.Name)
	if entity == "" {
		return nil
	}
	address, token := d.relay.Send(entity, session)
	return []wire.Door{{Kind: wire.DoorRelay, URL: address, Token: token}}
}

// wayTo is where a way of a kind to a node begins, "" = there is none now, and where a door leads
// to that is not the node's.
func wayTo(kind string, head *pool.Head, node *pool.Node) (address, inside string) {
	switch {
	case kind == pool.AccessDirect && way.IsPublic(node.Listens.Public):
		return node.Listens.Public, ""
	case kind == pool.AccessBalancer && way.IsInside(node.Listens.Inside):
		return head.Opening.Address, node.Listens.Inside
	}
	return "", ""
}
