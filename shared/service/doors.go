package service

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/sshca"
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

// ways are the ways for a person's program to a session on a node.
func (d *Doors) ways(entity, session string) []wire.Door {
	address, token := d.relay.Send(entity, session)
	return []wire.Door{{Kind: wire.DoorRelay, URL: address, Token: token}}
}
