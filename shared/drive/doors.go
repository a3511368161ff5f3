package drive

import (
	"context"
	"slices"
	"sync"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Doors says how people come in to the nodes of interactive pools. It owns its retries. After
// an error a session waits, and its node is asked for again later.
type Doors interface {
	// Listen returns where the door of a node listens, with tokens to listen there and nowhere
	// else, which are good for TokenFor from now on. entity is that of pool.Node.Entity.
	Listen(ctx context.Context, entity string) (protocol.Door, error)

	// Keys returns the keys by which a node knows the people of its sessions.
	Keys(ctx context.Context) (DoorKeys, error)
}

// DoorKeys are public keys. CAs sign the certificates of people, as lines of OpenSSH; Ticket
// signs tickets for browsers, as protocol.Session.TicketKey.
type DoorKeys struct {
	CAs    []string
	Ticket string
}

// TokenFor is how long a token to listen is good for, and renewAfter how old it gets before the
// node is sent another: half of it, so that an outage of some hours closes no door.
const (
	TokenFor   = 12 * time.Hour
	renewAfter = TokenFor / 2
)

// doorTimes says when the nodes of a pool were sent their doors, by VMID; this process only. A
// process that does not know sends the door again, which harms nobody.
type doorTimes struct {
	mu   sync.Mutex
	sent map[string]time.Time
}

func (t *doorTimes) set(vmid string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent == nil {
		t.sent = map[string]time.Time{}
	}
	t.sent[vmid] = at
}

func (t *doorTimes) isOld(vmid string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.sent[vmid]) >= renewAfter
}

// keep forgets the nodes for which is does not hold.
func (t *doorTimes) keep(is func(vmid string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for vmid := range t.sent {
		if !is(vmid) {
			delete(t.sent, vmid)
		}
	}
}

// addDoors adds to the assignments of sessions for one node, and to what lets people in to it or
// to its attempts, what the deployment knows. No row has it. It returns the items that can be sent: if
// the doors do not answer, these are the ones before the first such item; what follows is sent
// again by a later tick, or asked for again by who wants to come in.
func (d *Driver) addDoors(ctx context.Context, a *actor, vmid string, items []protocol.WorkItem) []protocol.WorkItem {
	isSession := func(i protocol.WorkItem) bool { return i.Assign != nil && i.Assign.Session != nil }
	first := slices.IndexFunc(items, func(i protocol.WorkItem) bool { return isSession(i) || i.Enter != nil })
	if d.doors == nil || first < 0 {
		return items
	}
	keys, err := d.doors.Keys(ctx)
	var door *protocol.Door
	usesRelay := a.state.Head.Spec.UsesRelay() // the sessions of another pool cost no listeners
	if err == nil && (usesRelay || slices.ContainsFunc(items, func(i protocol.WorkItem) bool { return i.Enter != nil })) {
		door, err = d.listen(ctx, a, vmid)
	}
	if err != nil {
		d.log.Warn("opening the door of a node has failed; nobody comes in", "pool", a.name, "node", vmid, "error", err)
		_ = d.bus.Wake(ctx, a.name, WakeTick, d.now().Add(d.timing.ResendAfter+time.Second)) // a timer does, otherwise
		return items[:first]
	}
	items = slices.Clone(items)
	for i := range items {
		if isSession(items[i]) {
			assignment, session := *items[i].Assign, *items[i].Assign.Session
			session.CAs, session.TicketKey = keys.CAs, keys.Ticket
			if usesRelay {
				session.Door = door
			}
			assignment.Session = &session
			items[i].Assign = &assignment
			a.doorsSent.set(vmid, d.now())
		}
		if items[i].Enter != nil {
			enter := *items[i].Enter
			enter.CAs, enter.Door = keys.CAs, door
			items[i].Enter = &enter
		}
	}
	return items
}

// listen is where a node of the pool listens at the relay: for browsers, too, if that is their way.
func (d *Driver) listen(ctx context.Context, a *actor, vmid string) (*protocol.Door, error) {
	door, err := d.doors.Listen(ctx, a.state.Nodes[vmid].Entity(a.name))
	if err != nil {
		return nil, err
	}
	if a.state.Head.Spec.BrowsersUse() != pool.AccessRelay {
		door.WebURL, door.WebToken = "", ""
	}
	return &door, nil
}

// renewDoors sends new tokens to the nodes with sessions whose tokens are old.
func (d *Driver) renewDoors(ctx context.Context, a *actor, events []pool.Event) {
	isTick := func(e pool.Event) bool { _, is := e.(pool.Tick); return is }
	if d.doors == nil || !slices.ContainsFunc(events, isTick) || !a.state.Head.Spec.UsesRelay() {
		return
	}
	nodes := map[string]bool{}
	for _, j := range a.state.Sessions() {
		if n := a.state.Nodes[j.VMID]; n != nil && !j.Session.ReadyAt.IsZero() && j.Cancel == "" && n.Slot > 0 {
			nodes[j.VMID] = true
		}
	}
	a.doorsSent.keep(func(vmid string) bool { return a.state.Nodes[vmid] != nil })
	for vmid := range nodes {
		if !a.doorsSent.isOld(vmid, d.now()) {
			continue
		}
		door, err := d.listen(ctx, a, vmid)
		if err == nil {
			err = d.bus.Work(ctx, protocol.SessionID(a.name, vmid), []protocol.WorkItem{{Door: door}})
		}
		if err != nil {
			d.log.Warn("renewing the door of a node has failed; the next tick tries again", "pool", a.name, "node", vmid, "error", err)
			continue
		}
		a.doorsSent.set(vmid, d.now())
	}
}

// newSessions leaves out the sessions that have ended already: an event may come twice.
func (d *Driver) newSessions(ctx context.Context, a *actor, events []pool.Event) ([]pool.Event, error) {
	isOpen := func(e pool.Event) bool { _, is := e.(pool.Open); return is }
	if !slices.ContainsFunc(events, isOpen) {
		return events, nil
	}
	var left []pool.Event
	for _, e := range events {
		if open, is := e.(pool.Open); is && a.state.Jobs.Get(open.Order) == nil {
			if _, ended := a.ended[open.Order]; ended {
				continue
			}
			ended, err := d.hasEnded(ctx, a.name, pool.Submit{Order: open.Order, ID: open.ID})
			if err != nil {
				return nil, err
			}
			if ended {
				continue
			}
		}
		left = append(left, e)
	}
	return left, nil
}
