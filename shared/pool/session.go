package pool

import (
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Kinds of pools.
const (
	KindBatch       = "batch"       // it runs jobs
	KindInteractive = "interactive" // people work on its nodes
)

// Sessions is what the sessions of an interactive pool are like.
type Sessions struct {
	Resources job.Resources `json:"resources"`       // a slot; CPUs = 0 means a node of one's own
	Spare     int           `json:"spare,omitempty"` // free slots that are kept while anybody is there
	IdleAfter job.Duration  `json:"idleAfter"`       // all votes idle for so long: warn; 0 = never for idleness
	Warning   job.Duration  `json:"warning"`         // and end so long after the warning
	MaxAge    job.Duration  `json:"maxAge"`          // warn and end then, used or not; 0 = never
	Home      string        `json:"home"`            // protocol.HomeLocal or protocol.HomeShare
	Jupyter   string        `json:"jupyter"`         // protocol.JupyterLab, ...
	Sudo      bool          `json:"sudo,omitempty"`
	Probe     string        `json:"probe,omitempty"` // script that votes; exit code 0 = busy
	// Secrets say by variable where the value of a secret is, as those of a job do. Each session
	// has them, and its owner alone can read them.
	Secrets map[string]string `json:"secrets,omitempty"`
	// Desktop is DesktopRDP, or "": there is none. The server is the image's.
	Desktop string `json:"desktop,omitempty"`
}

// DesktopRDP is a desktop at port 3389 of the node, through the door.
const DesktopRDP = "rdp"

// Members says who may open sessions of a pool; both empty: everybody with the role user.
type Members struct {
	Groups []string `json:"groups,omitempty"` // object ids of groups of the directory
	Names  []string `json:"names,omitempty"`  // logins, such as ann@contoso.com
}

// Ways to the nodes of an interactive pool.
const (
	AccessRelay    = "relay"              // through Azure Relay: nothing listens on the node's addresses
	AccessDirect   = protocol.WayDirect   // to the node's own address
	AccessBalancer = protocol.WayBalancer // to one address of the pool's
)

// Ways lists the ways for which the door of a node listens, as protocol.Session.Ways.
func (s *Spec) Ways() []string {
	return slices.DeleteFunc(slices.Clone(s.Access), func(way string) bool { return way == AccessRelay })
}

// UsesRelay reports whether the nodes of the pool listen at the relay.
func (s *Spec) UsesRelay() bool { return len(s.Access) == 0 || slices.Contains(s.Access, AccessRelay) }

// BrowsersUse is the way by which browsers come in: the first one of those in AccessRelay and
// AccessBalancer that the document names; "" = they do not.
func (s *Spec) BrowsersUse() string {
	if len(s.Access) == 0 {
		return AccessRelay
	}
	i := slices.IndexFunc(s.Access, func(way string) bool { return way != AccessDirect })
	if i < 0 {
		return ""
	}
	return s.Access[i]
}

// WithoutLab says why the document gives no session a JupyterLab that a browser comes to; "" = it
// gives one.
func (s *Spec) WithoutLab() string {
	switch {
	case s.Sessions != nil && s.Sessions.Jupyter == protocol.JupyterOff:
		return "the pool's document says `jupyter: off`"
	case s.BrowsersUse() == "":
		return "browsers come by `relay` or by `balancer`, and the pool's `access` has neither; add one, or forward a port by ssh"
	}
	return ""
}

// IsInteractive reports whether people work on the nodes of the pool.
func (s *Spec) IsInteractive() bool { return s.Kind == KindInteractive }

// Slot is what one session of the pool takes of a node, as a job's resources. With a node of
// one's own it is one cpu, and nobody else is placed there: see Spec.Pack.
func (s *Spec) Slot() job.Resources {
	if s.Sessions == nil {
		return job.Resources{CPUs: 1}
	}
	of := s.Sessions.Resources
	of.CPUs = max(of.CPUs, 1)
	return of
}

// Session is what a job has that is a session. Its job has no command; the job's user is the
// name of the account, and its resources are the pool's slot.
type Session struct {
	Owner string `json:"owner"`          // object id of the person in the directory; it never changes
	UID   int    `json:"uid"`            // of the account
	Home  string `json:"home,omitempty"` // protocol.HomeLocal or protocol.HomeShare, as its pool said when it was opened; "" = local

	ReadyAt  time.Time `json:"readyAt,omitzero"`  // when it could first be used; zero = not yet
	KeepTill time.Time `json:"keepTill,omitzero"` // its owner keeps it until then; zero = has not asked

	// What its node has reported. Only what matters to a rule or to a person is written, see
	// docs/pools.md: a report that changes nothing changes no row.
	HeardAt    time.Time         `json:"heardAt,omitzero"`     // enqueued time of the report that these are of; zero = none
	IdleSince  time.Time         `json:"idleSince,omitzero"`   // since when all voters are idle, by the enqueued time; zero = one is busy
	Unknown    bool              `json:"unknown,omitempty"`    // a voter could not find out: it counts as busy, for a day
	Since      time.Time         `json:"since,omitzero"`       // since when Unknown; zero = it is not
	Votes      map[string]string `json:"votes,omitempty"`      // by voter, for people
	Links      map[string]int    `json:"links,omitempty"`      // open connections: ssh, jupyter
	Relayed    int64             `json:"relayed,omitempty"`    // bytes through the relay
	DoorClosed string            `json:"doorClosed,omitempty"` // why nobody can come in; "" = the door is open

	// The password of its desktop. It is sealed to a key of its owner's: nobody who reads the
	// row can open it.
	SealTo       string `json:"sealTo,omitempty"`       // the key that was asked for last; "" = none was
	Sealed       string `json:"sealed,omitempty"`       // the password, sealed to SealTo; "" = the node has not answered yet
	DesktopFault string `json:"desktopFault,omitempty"` // why the node has made none

	// Its warning. All are zero while it is not warned.
	WarnN    int64     `json:"warnN,omitempty"`   // number of the last warning, or of its withdrawal
	ToldN    int64     `json:"toldN,omitempty"`   // number of the last one that its node says it has
	WarnedAt time.Time `json:"warnedAt,omitzero"` // when it was warned; zero = it is not
	WarnedOn time.Time `json:"warnedOn,omitzero"` // enqueued time of the report that it was warned on, if for idleness
	EndsAt   time.Time `json:"endsAt,omitzero"`   // when it ends if nobody acts; zero = it is not warned
	DueAt    time.Time `json:"dueAt,omitzero"`    // enqueued time of the tick that found EndsAt passed, if for idleness

	// EndsBy is why it ends: of a warned session, of one that is being ended and of one that has
	// ended; "" = it goes on. See EndIdle and the others.
	EndsBy string `json:"endsBy,omitempty"`
}

// Who or what ends a session.
const (
	EndIdle        = "idle"        // nobody used it
	EndMaxAge      = "maxAge"      // it was as old as the pool allows
	EndSchedule    = "schedule"    // the pool goes down
	EndBudget      = "budget"      // a budget ends what runs
	EndUser        = "user"        // its owner ended it
	EndAdmin       = "admin"       // somebody else did
	EndPoolDeleted = "poolDeleted" // its pool was deleted
	EndNodeLost    = "nodeLost"    // its node is gone, or does not know it any more
	EndEvicted     = "evicted"     // Azure has taken its node away
	EndStartFailed = "startFailed" // it could not be made on a node
)

// Entity is the name of the relay's entity at which a node of an interactive pool listens;
// "" = the node has none. That for browsers has another name, see relay.Doors.
func (n *Node) Entity(pool string) string {
	if n.Slot == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%d", pool, n.Slot)
}
