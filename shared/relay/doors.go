package relay

import (
	"context"
	"net/url"
	"time"

	"dsvmpools/shared/protocol"
)

// How long tokens are good for.
const (
	listenFor = 12 * time.Hour // a node's; the pool sends it another one before
	sendFor   = 15 * time.Minute
)

// webSuffix makes the name of a node's entity for browsers from that of its own.
const webSuffix = "-web"

// Doors gives tokens for the entities of nodes, and has the entities made.
type Doors struct {
	Namespace Namespace
	ListenKey string // of the rule listen
	SendKey   string // of the rule send
	// Ensure makes an entity if there is none; anonymous takes senders without a token.
	Ensure func(ctx context.Context, entity string, anonymous bool) error
	Now    func() time.Time // nil = the clock
}

func (d *Doors) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Listen returns what a node needs to listen at its own entity, and at its entity for browsers,
// for 12 hours: a token for these two and for nothing else. Errors are those of Ensure.
func (d *Doors) Listen(ctx context.Context, entity string) (protocol.Door, error) {
	web := entity + webSuffix
	if err := d.Ensure(ctx, entity, false); err != nil {
		return protocol.Door{}, err
	}
	if err := d.Ensure(ctx, web, true); err != nil {
		return protocol.Door{}, err
	}
	until := d.now().Add(listenFor)
	return protocol.Door{
		URL: d.Namespace.Address(entity), Token: d.Namespace.Token(RuleListen, d.ListenKey, entity, until),
		WebURL: d.Namespace.Address(web), WebToken: d.Namespace.Token(RuleListen, d.ListenKey, web, until),
	}, nil
}

// Send returns the address to Dial for the sshd of a session behind an entity, and a token that
// is good for 15 minutes, to send there and nowhere else.
func (d *Doors) Send(entity, session string) (address, token string) {
	return d.Namespace.Address(entity) + SSH + "/" + session, d.Namespace.Token(RuleSend, d.SendKey, entity, d.now().Add(sendFor))
}

// SendDesktop is Send for the desktop of the session.
func (d *Doors) SendDesktop(entity, session string) (address, token string) {
	return d.Namespace.Address(entity) + Desktop + "/" + session, d.Namespace.Token(RuleSend, d.SendKey, entity, d.now().Add(sendFor))
}

// LoginSession names the session in the query of the address at which browsers get in. It tells
// those who have a ticket from strangers before the ticket is shown.
const LoginSession = "session"

// Login is the address at which a browser gets in to a session at an entity, with a ticket: in the
// fragment, so that it is in no log and in no header.
func (d *Doors) Login(entity, session, ticket string) string {
	return d.Namespace.Page(entity+webSuffix) + "/dsvm/login?" + LoginSession + "=" + url.QueryEscape(session) + "#" + ticket
}
