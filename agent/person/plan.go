package person

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Plan is everything that a keeper has to know. It is a file that root alone reads.
type Plan struct {
	N         int64         `json:"n"`                   // of the assignment
	Session   string        `json:"session"`             // its id, of which the certificates' principal is made
	User      string        `json:"user"`                // name of the account
	UID       int           `json:"uid"`                 // also the gid
	Pool      string        `json:"pool"`                //
	Node      string        `json:"node"`                //
	VMID      string        `json:"vmid"`                //
	Share     string        `json:"share"`               // path of the share on the node
	OnShare   bool          `json:"onShare,omitempty"`   // the home is on the share, which keeps owners
	CAs       []string      `json:"cas"`                 // public keys that sign certificates, as lines of OpenSSH
	CPUs      int           `json:"cpus"`                // 0 = all
	Memory    int64         `json:"memory"`              // bytes; 0 = no bound
	GPUs      []int         `json:"gpus"`                // indexes of its own
	Sudo      bool          `json:"sudo"`                //
	Probe     string        `json:"probe"`               // script that votes; "" = none
	Lab       string        `json:"lab"`                 // program jupyter; "" = no JupyterLab
	Hub       string        `json:"hub,omitempty"`       // program jupyterhub, which starts JupyterLab; "" = the keeper does
	WebURL    string        `json:"webURL"`              // where browsers reach it by the relay; "" = nowhere
	WebBase   string        `json:"webBase,omitempty"`   // without WebURL: the first part of its path at the node's own door; "" = they do not
	OwnUsers  bool          `json:"ownUsers"`            // the machine is not the node's own: the account is made in a world apart
	Own       bool          `json:"own,omitempty"`       // of the keeper's own account, not root: no account, home and view are made
	Home      string        `json:"home,omitempty"`      // with Own: the home folder
	Path      string        `json:"path,omitempty"`      // with Own: where programs are looked for
	SSHD      string        `json:"sshd"`                // program; "" = nobody comes in by SSH
	HostKey   string        `json:"hostKey"`             // path of the private key
	State     string        `json:"state"`               // folder of the session on the disk
	Run       string        `json:"run"`                 // folder of its sockets, gone after a boot
	Homes     string        `json:"homes"`               // with OwnUsers: folder of the homes on the disk
	DoorState string        `json:"doorState"`           // file in which the door says what comes in
	Groups    []string      `json:"groups"`              // control groups that are made for it; nil = the keeper's own
	Every     time.Duration `json:"every"`               // between two counts of votes
	ViewFault string        `json:"viewFault,omitempty"` // why the view could not be made; the keeper sets it
}

// Folders and files of a session.
const (
	PlanFile    = "session.json" // of a Plan, in the folder State
	controlFile = "control.sock"
	sshFile     = "ssh.sock"
	lockFile    = "lock"
	noticeFile  = "notice.json" // for people in JupyterLab; the door reads it
)

// minUID is the least number of a person's account: below it are those of the system.
const minUID = 200_000

// maxUID is the largest number of a user that every system call takes.
const maxUID = 1<<31 - 2

var userPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// SSH is the path of the socket at which the session's SSH server answers.
func (p Plan) SSH() string { return filepath.Join(p.Run, sshFile) }

// Notice is the path of what the person is told in JupyterLab; it need not be there.
func (p Plan) Notice() string { return filepath.Join(p.Run, noticeFile) }

// CheckProgram says why people with accounts of their own cannot run a program of the machine:
// a session has other folders in the place of some, and others it cannot pass.
func CheckProgram(path string) error {
	for _, covered := range []string{"/tmp", "/var/tmp", "/run", "/home"} {
		if strings.HasPrefix(path, covered+"/") {
			return fmt.Errorf("%s is below %s, which is another folder in a session; install it elsewhere, such as below /opt", path, covered)
		}
	}
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		const passable = 0o001
		if at, err := os.Stat(dir); err != nil || at.Mode()&passable == 0 {
			return fmt.Errorf("%s is below %s, which other accounts cannot pass; install it elsewhere, such as below /opt", path, dir)
		}
	}
	return nil
}

// LabSocket is the path of the socket at which JupyterLab answers, if there is one.
func (p Plan) LabSocket() string { return filepath.Join(p.labDir(), "lab.sock") }

// HubSocket is the path of the socket at which JupyterHub answers, if there is one.
func (p Plan) HubSocket() string { return filepath.Join(p.labDir(), "hub.sock") }

// labDir belongs to the person: nobody else reaches what is in it.
func (p Plan) labDir() string { return filepath.Join(p.Run, "lab") }

// RunFolder is the run folder of a session: its path is short enough for sockets, and root's
// alone from the top, which sshd asks for. Key is that of the node among those of a machine.
func RunFolder(key string, n int64) string {
	return filepath.Join(runRoot(), key+"."+strconv.FormatInt(n, 10))
}

// runRoot has the run folders of sessions. Where they are not root's, they are below /tmp,
// whose name is short: a path of a socket has some 100 bytes.
func runRoot() string {
	if uid := os.Geteuid(); uid != 0 {
		return "/tmp/dsvmpools-" + strconv.Itoa(uid)
	}
	return "/run/dsvmpools/sessions"
}

// Check says what is wrong with a plan: it comes by a message. The error is a fault with
// the code Invalid.
func (p Plan) Check() error {
	switch {
	case !userPattern.MatchString(p.User):
		return fault.New(fault.Invalid, "user", "the account's name is not safe; it has 1 to 32 characters of a-z 0-9 -, a letter first")
	case p.Own && (p.UID == 0 || p.UID != os.Geteuid()):
		return fault.New(fault.Invalid, "uid", "the session is of the account %d, and its keeper would run as %d", p.UID, os.Geteuid())
	case !p.Own && (p.UID < minUID || p.UID > maxUID):
		return fault.New(fault.Invalid, "uid", "the account's number is %d; it is %d to %d", p.UID, minUID, maxUID)
	case job.CheckID(p.Session) != nil:
		return fault.New(fault.Invalid, "session", "the session's id is not a safe name; it has 1 to 100 characters of A-Z a-z 0-9 . _ -")
	case len(p.CAs) == 0:
		return fault.New(fault.Invalid, "cas", "the session names no key that signs certificates, so nobody could log in")
	}
	for _, line := range p.CAs {
		if _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil || len(rest) > 0 || strings.ContainsAny(line, "\r\n") {
			return fault.New(fault.Invalid, "cas", "a key that should sign certificates is no public key; write it as one line of OpenSSH")
		}
	}
	return nil
}

// State is what a keeper knows of its session. It says so to whoever connects: at once, when
// something changes, and otherwise with each count of the votes.
type State struct {
	Step        string            `json:"step,omitempty"`    // that is being made; "" = all are
	Ready       bool              `json:"ready"`             // the person can come in
	Failure     string            `json:"failure,omitempty"` // why Step has failed; the keeper ends
	Node        bool              `json:"node,omitempty"`    // Failure is the node's fault, and not the session's
	Lab         bool              `json:"lab,omitempty"`     // JupyterLab was started
	Idle        int64             `json:"idle"`              // seconds since which all voters are idle; 0 = one is busy
	Unknown     bool              `json:"unknown,omitempty"`
	Votes       map[string]string `json:"votes,omitempty"`
	Connections map[string]int    `json:"connections,omitempty"`
	Relayed     int64             `json:"relayed,omitempty"`
	DoorClosed  string            `json:"doorClosed,omitempty"`
	Desktop     *protocol.Sealed  `json:"desktop,omitempty"` // the password of the account; nil = it has none
	Ended       bool              `json:"ended,omitempty"`   // nothing of it is left
}

// Verdict is what of a state is reported at once when it changes.
func (s State) Verdict() string {
	return strconv.FormatBool(s.Idle > 0) + strconv.FormatBool(s.Unknown) + s.DoorClosed
}

// order is what the agent asks of a keeper. Exactly one field is set.
type order struct {
	Warn    *Warning `json:"warn,omitempty"`
	Desktop *desktop `json:"desktop,omitempty"`
	End     *ending  `json:"end,omitempty"`
}

// Warning is what the person is told.
type Warning struct {
	Number int64     `json:"number"`
	Text   string    `json:"text"`   // one line
	EndsAt time.Time `json:"endsAt"` // by the node's clock; zero = the warning is withdrawn
}

// desktop asks for a new password of the account, sealed to a key.
type desktop struct {
	SealTo string `json:"sealTo"`
}

type ending struct {
	Reason string        `json:"reason"`
	Grace  time.Duration `json:"grace"`
}
