package main

import (
	"context"
	"errors"
	"net"
	"net/http"

	"dsvmpools/shared/relay"
	"dsvmpools/shared/wire"
)

// dialDesktop connects to the desktop of a session by the first way that leads to its node.
func dialDesktop(ctx context.Context, to wire.SessionDesktop) (net.Conn, error) {
	err := errors.New("the instance knows no way to the desktop that this program can go; bring both to one release")
	for _, way := range to.Doors {
		if way.Kind != wire.DoorRelay {
			continue
		}
		var node net.Conn
		if node, err = relay.DialWith(ctx, way.URL, way.Token, http.Header{relay.TicketHeader: {to.Ticket}}); err == nil {
			return node, nil
		}
	}
	return nil, err
}
