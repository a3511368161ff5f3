package wire

import (
	"cmp"
	"maps"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// SessionState is the state of a session as people see it.
type SessionState string

// States of a session.
const (
	SessionWaiting  SessionState = "waiting"  // in line, or its node is on its way
	SessionStarting SessionState = "starting" // it has a node, which makes the account and the doors
	SessionReady    SessionState = "ready"    // its owner can come in
	SessionEnding   SessionState = "ending"   // it has been asked to end
	SessionEnded    SessionState = "ended"
)

// Session is a place of one person on a node of an interactive pool. What is not known
// (yet) is null, or "" where it is a text.
type Session struct {
	ID        string       `json:"id"`
	Pool      string       `json:"pool"`
	User      string       `json:"user"` // name of the account on the node
	Team      string       `json:"team"`
	UID       int          `json:"uid"`
	State     SessionState `json:"state"`
	Reason    string       `json:"reason"`
	Position  int          `json:"position,omitempty"` // in line, from 1, while it waits
	UsualWait int64        `json:"usualWait"`          // seconds that nodes took lately until their first report; 0 = not known

	Node      string        `json:"node"`
	VMID      string        `json:"vmid"`
	Size      string        `json:"size"`
	Resources job.Resources `json:"resources"`

	OpenedAt    *time.Time        `json:"openedAt"`
	ReadyAt     *time.Time        `json:"readyAt"`
	IdleFor     int64             `json:"idleFor"` // seconds since which all voters are idle; 0 = one is busy
	Votes       map[string]string `json:"votes"`   // by voter: input, kernels, cpu, gpu, io, held, probe
	WarnedAt    *time.Time        `json:"warnedAt"`
	EndsAt      *time.Time        `json:"endsAt"`            // when it ends if nobody acts; null = it is not warned
	KeepUntil   *time.Time        `json:"keepUntil"`         // its owner has asked to keep it until then
	KeepCut     bool              `json:"keepCut,omitempty"` // of the answer to SessionExtend: its pool ends it before what was asked for
	Connections map[string]int    `json:"connections"`
	Relayed     int64             `json:"relayed"`    // bytes through the relay
	DoorClosed  string            `json:"doorClosed"` // why nobody can come in; "" = the door is open
	Cost        *Cost             `json:"cost"`       // so far, or in all; null: it has not begun, or its use is not kept any more
	// Missing is what it lacks by its node or its pool's document, by users, ssh and jupyter, and why.
	Missing map[string]string `json:"missing,omitempty"`
	End     *SessionEnd       `json:"end"` // null while it lives
}

// Cost is what something costs.
type Cost struct {
	Amount   string `json:"amount"`   // decimal, or usage.UnknownPrice, which is never zero
	Currency string `json:"currency"` // ISO 4217; "" = the price is not known
}

// SessionEnd says how a session ended.
type SessionEnd struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"` // pool.EndIdle or another of these; "" = it was not recorded
	Detail string    `json:"detail"`
}

// SessionRequest asks for a session.
type SessionRequest struct {
	Pool   string `json:"pool"`
	Team   string `json:"team,omitempty"`   // that it counts for; "" = the one team of the person, or none
	Intent string `json:"intent,omitempty"` // IntentOpen or IntentRejoin; "" = open
}

// Intents of a SessionRequest.
const (
	IntentOpen   = "open"   // return the live session, or make one
	IntentRejoin = "rejoin" // return the live session, and never make one
)

// SessionExtend asks to keep a session.
type SessionExtend struct {
	For job.Duration `json:"for"` // from now
}

// CertificateRequest asks for a certificate for SSH.
type CertificateRequest struct {
	PublicKey string `json:"publicKey"` // a line of OpenSSH
}

// JobCertificateRequest asks for a certificate for SSH into a running job.
type JobCertificateRequest struct {
	PublicKey string `json:"publicKey"`      // a line of OpenSSH
	Rank      int    `json:"rank,omitempty"` // of a job on several nodes, from 0
}

// SessionCertificate is what a client needs to come into a session, or into a running job, by SSH.
type SessionCertificate struct {
	Certificate string    `json:"certificate"` // a line of OpenSSH
	ValidBefore time.Time `json:"validBefore"`
	Principal   string    `json:"principal"`
	KnownHosts  []string  `json:"knownHosts"` // lines for the file known_hosts, under the name POOL.dsvm, or EntryHost for a job
	User        string    `json:"user"`       // to log in as
	Doors       []Door    `json:"doors"`      // ways to the node, the best first
}

// Door is a way to a node.
type Door struct {
	Kind    string `json:"kind"`              // DoorRelay, DoorDirect or DoorBalancer
	URL     string `json:"url,omitempty"`     // of a relay: wss://NAMESPACE/$hc/ENTITY/ssh/SESSION
	Address string `json:"address,omitempty"` // of the others: HOST:PORT, to connect to by TCP
	Token   string `json:"token"`             // good for 15 minutes: a shared access signature, or a way that the door of a node reads first
}

// Kinds of doors.
const (
	DoorRelay    = "relay"              // both ends dial out
	DoorDirect   = protocol.WayDirect   // the node's own address
	DoorBalancer = protocol.WayBalancer // the pool's one address
)

// SessionLab says where the JupyterLab of a session is. The address holds a ticket that is
// good once, for a minute.
type SessionLab struct {
	URL string `json:"url"`
}

// HostSuffix makes the name under which OpenSSH knows a pool.
const HostSuffix = ".dsvm"

// EntryHost is the name under which OpenSSH knows the node of a job. What belongs to one login is
// in files of its own, so that one name does for all.
const EntryHost = "entry" + HostSuffix

// NewSession is the shape of a session. The job is one that has a session; node is its node,
// nil = it has none, or the node is not known any more.
func NewSession(j *pool.Job, node *pool.Node, now time.Time) Session {
	s := *cmp.Or(j.Session, &pool.Session{}) // of one whose rows have gone, nothing is known
	out := Session{
		ID: j.ID, Pool: j.Spec.Pool, User: j.Spec.User, Team: j.Spec.Team, UID: s.UID, State: sessionState(j), Reason: j.Reason,
		VMID: j.VMID, Resources: j.Spec.Resources,
		OpenedAt: known(j.SubmittedAt), ReadyAt: known(s.ReadyAt), Votes: maps.Clone(s.Votes),
		WarnedAt: known(s.WarnedAt), EndsAt: known(s.EndsAt), KeepUntil: known(s.KeepTill), Connections: maps.Clone(s.Links), Relayed: s.Relayed,
		DoorClosed: s.DoorClosed,
	}
	if !s.IdleSince.IsZero() {
		out.IdleFor = int64(max(now.Sub(s.IdleSince), 0) / time.Second)
	}
	if out.Votes == nil {
		out.Votes = map[string]string{}
	}
	if out.Connections == nil {
		out.Connections = map[string]int{}
	}
	if n := len(j.Attempts); n > 0 {
		out.Node = j.Attempts[n-1].Node
	}
	if node != nil {
		out.Node, out.Size, out.Missing = node.Name, node.Size, node.Missing
	}
	if out.State == SessionEnded {
		out.EndsAt = nil
		out.End = &SessionEnd{At: j.EndedAt.UTC(), By: s.EndsBy, Detail: j.Reason}
	}
	return out
}

func sessionState(j *pool.Job) SessionState {
	switch {
	case j.State.Final():
		return SessionEnded
	case j.Cancel != "":
		return SessionEnding
	case j.State == job.Running:
		return SessionReady
	case j.State == job.Assigned:
		return SessionStarting
	}
	return SessionWaiting
}
