package protocol

import "slices"

// A session is an attempt that does not end by itself: a person works on the node. It is
// assigned, cancelled, finished and held like any other attempt. Its assignment has
// Session in the place of a command. It outlives the agent: an agent that starts again
// finds the sessions of its journal, and goes on with those that live.

const (
	FeatureHub            = "hub"            // Session.Jupyter is JupyterHub
	FeatureSession        = "session"        // Assignment.Session
	FeatureSessionHome    = "sessionHome"    // Session.Home is HomeShare
	FeatureSessionSecrets = "sessionSecrets" // Assignment.Secrets of a session
	FeatureWays           = "ways"           // Session.Ways
)

// SessionFeatures lists the features of an agent whose node can have sessions, in order, but for
// FeatureWays, which only one with a door of its own has.
func SessionFeatures() []string {
	all := append(Features(), FeatureHub, FeatureDesktop, FeatureSession, FeatureSessionHome, FeatureSessionSecrets)
	slices.Sort(all)
	return all
}

// Session says whose a session is, and what it has. Started means that the account, the
// home, the links and the doors are there.
type Session struct {
	User    string `json:"user"` // name of the account, [a-z][a-z0-9-]{0,31}
	UID     int    `json:"uid"`  // also the gid; 200000 or more, the same on each node
	Home    string `json:"home"` // HomeLocal or HomeShare
	Jupyter string `json:"jupyter"`
	Sudo    bool   `json:"sudo,omitempty"`
	Probe   string `json:"probe,omitempty"` // script of the pool, run as the user: exit code 0 = busy
	// CAs are the public keys that sign the certificates of people, as lines of OpenSSH.
	CAs []string `json:"cas,omitempty"`
	// Door is the relay's entity of the node. Its token is never in a row: the driver adds it
	// when it sends the message.
	Door *Door `json:"door,omitempty"`
	// TicketKey is the public key that signs tickets for the browser, and ways to the node
	// (shared/way): Ed25519, base64.
	TicketKey string `json:"ticketKey,omitempty"`
	// Ways are those to the node beside the relay, WayDirect or WayBalancer: with any of them
	// its door listens at the address that Ready.Listens tells.
	Ways []string `json:"ways,omitempty"`
}

// Ways to a node beside the relay, as the field `access` of a pool names them.
const (
	WayDirect   = "direct"   // to the node's own address
	WayBalancer = "balancer" // to the pool's one address, behind which any node answers
)

// Listens is where the door of a node listens while a session is there that has Ways. Both are
// an IP address and a port, as in "10.1.0.4:443". A node says so of itself: shared/way looks at
// them before anybody is led there.
type Listens struct {
	Public string `json:"public,omitempty"` // where people find it; "" = the node has no address of its own
	Inside string `json:"inside"`           // where the doors of other nodes find it
}

// What sessions may lack on a node.
const (
	MissingUsers   = "users"   // accounts of people: a session runs as the account of the agent
	MissingSSH     = "ssh"     // the way in by SSH
	MissingJupyter = "jupyter" // the way in by JupyterLab
)

// Homes and kinds of Jupyter of a session.
const (
	HomeLocal  = "local"
	HomeShare  = "share"
	JupyterLab = "lab"
	JupyterHub = "hub"
	JupyterOff = "off"
)

// Door is where a node listens for the people of its sessions.
type Door struct {
	URL      string `json:"url"`                // wss://NAMESPACE/$hc/ENTITY
	Token    string `json:"token,omitempty"`    // to listen there, a shared access signature
	WebURL   string `json:"webURL,omitempty"`   // the entity for browsers; "" = none
	WebToken string `json:"webToken,omitempty"` // to listen there
}

// FeatureDesktop is WorkItem.Desktop.
const FeatureDesktop = "desktop"

// Desktop asks the node for a new password of a session's account, for the desktop by RDP,
// sealed to a key. Nobody but the owner of that key can read it. The same key again changes
// nothing: the node says what it has said.
type Desktop struct {
	Target int64  `json:"target"` // number of the session's assignment
	SealTo string `json:"sealTo"` // public key, see package seal
}

// DesktopPurpose is what the password of a session's desktop is sealed for.
func DesktopPurpose(session, user string) string { return "dsvm desktop " + session + " " + user }

// Sealed is the password that a node has made, and for whom.
type Sealed struct {
	To     string `json:"to"`              // public key
	Secret string `json:"secret"`          // for DesktopPurpose; "" = none could be made
	Fault  string `json:"fault,omitempty"` // why not, for people
}

// Warn asks the node to tell the people of a session that it ends soon. A later one takes
// the place of an earlier one.
type Warn struct {
	Target int64  `json:"target"` // number of the session's assignment
	EndsIn int64  `json:"endsIn"` // seconds from when it was sent; 0 = the warning is withdrawn
	Text   string `json:"text"`   // for people, one line
}

// SessionState is what a node knows of one session. It is sent when the verdict changes, and
// otherwise once a minute.
type SessionState struct {
	N    int64 `json:"n"`
	Idle int64 `json:"idle"` // seconds since which all voters that could find out are idle; 0 = one is busy
	// Warned is the number of the last Warn that the node has for the session; 0 = none. A change
	// of it is reported at once: the pool repeats, under another number, what is not answered.
	Warned int64 `json:"warned,omitempty"`
	// Unknown is set if a voter could not find out: the session counts as busy, for a day at most.
	Unknown     bool              `json:"unknown,omitempty"`
	Votes       map[string]string `json:"votes,omitempty"`       // by voter, for people: input, kernels, cpu, gpu, io, held, probe
	Connections map[string]int    `json:"connections,omitempty"` // open ones: ssh, jupyter
	Relayed     int64             `json:"relayed,omitempty"`     // bytes through the relay since the session began
	DoorClosed  string            `json:"doorClosed,omitempty"`  // why nobody can come in; "" = the door is open
	// Desktop answers the Desktop that came last; nil = none has come.
	Desktop *Sealed `json:"desktop,omitempty"`
}
