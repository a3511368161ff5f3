package handlers

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"dsvmpools/infra"
	"dsvmpools/shared/boot"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// NodeSettings are what the nodes of all pools have in common.
type NodeSettings struct {
	Identity       string     // resource id of their managed identity
	ClientID       string     // client id of that identity
	SSHPublicKey   string     // of their administrator
	Image          pool.Image // of pools that name none; zero = the one that is built in
	PublicIP       bool       // each has a public address while it lives
	SecurityType   string     // "" or TrustedLaunch
	Zones          []string
	ProximityGroup string    // resource id
	DeployedAt     time.Time // when this app was deployed; zero = not said
	OSDiskGiB      int       // least size of their OS disk; 0 = what the image needs
	EphemeralDisk  bool      // the OS disk lies on the machine itself where it has room

	AgentURL    string // of the agent's program
	AgentSHA256 string // of that program, in lower case
	LogBound    string // of each log of an attempt; "" = the agent's default
	// DoorCertificate is keyvault:VAULT/SECRET, by which browsers know the doors of nodes; "" = nodes make their own.
	DoorCertificate string

	ShareAccount string // storage account of the share
	ShareName    string
	ShareAuth    string // shareByKey or shareByIdentity
	ShareKeyURL  string // of the vault's secret with the account's key
}

// How nodes prove themselves to the share.
const (
	shareByKey      = "key"
	shareByIdentity = "identity"
)

// maxOSDisk is what Azure takes at most, in GiB.
const maxOSDisk = 4095

var (
	zone     = regexp.MustCompile(`^[1-9][0-9]?$`)
	sshKey   = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa) AAAA[0-9A-Za-z+/]+=*( [^\n]*)?\n?$`)
	clientID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// nodes reads the settings about nodes.
func (r *reader) nodes() NodeSettings {
	n := NodeSettings{
		Identity:       r.getenv("DSVM_NODE_IDENTITY_ID"),
		ClientID:       r.getenv("DSVM_NODE_CLIENT_ID"),
		SSHPublicKey:   r.required("DSVM_SSH_PUBLIC_KEY"),
		Image:          r.image("DSVM_IMAGE"),
		PublicIP:       r.boolean("DSVM_NODE_PUBLIC_IP", true),
		SecurityType:   r.getenv("DSVM_SECURITY_TYPE"),
		Zones:          r.list("DSVM_ZONES"),
		ProximityGroup: r.getenv("DSVM_PROXIMITY_GROUP_ID"),
		DeployedAt:     r.instant("DSVM_DEPLOYED_AT"),
		OSDiskGiB:      r.number("DSVM_OS_DISK_GIB", 1, maxOSDisk),
		EphemeralDisk:  r.boolean("DSVM_EPHEMERAL_DISK", true),
		AgentURL:       r.address("DSVM_AGENT_URL"),
		AgentSHA256:    r.getenv("DSVM_AGENT_SHA256"),
		LogBound:       r.getenv("DSVM_LOG_BOUND"),

		DoorCertificate: r.getenv("DSVM_DOOR_CERTIFICATE"),
		ShareAccount:    r.getenv("DSVM_SHARE_ACCOUNT"),
		ShareName:       r.getenv("DSVM_SHARE_NAME"),
		ShareAuth:       r.getenv("DSVM_SHARE_AUTH"),
		ShareKeyURL:     r.address("DSVM_SHARE_KEY_URL"),
	}
	if n.ClientID != "" && !clientID.MatchString(n.ClientID) {
		r.fail("DSVM_NODE_CLIENT_ID", "DSVM_NODE_CLIENT_ID is %.60q; write the client id of the nodes' identity, a GUID", n.ClientID)
	}
	if n.SSHPublicKey != "" && !sshKey.MatchString(n.SSHPublicKey) {
		r.fail("DSVM_SSH_PUBLIC_KEY",
			"DSVM_SSH_PUBLIC_KEY is no public key that Azure takes; write the one line of a file such as id_ed25519.pub or id_rsa.pub")
	}
	if n.SecurityType != "" && n.SecurityType != fleet.TrustedLaunch {
		r.fail("DSVM_SECURITY_TYPE", "DSVM_SECURITY_TYPE is %.40q; write %s, or leave it out for what Azure takes itself",
			n.SecurityType, fleet.TrustedLaunch)
	}
	if slices.ContainsFunc(n.Zones, func(z string) bool { return !zone.MatchString(z) }) {
		r.fail("DSVM_ZONES", "DSVM_ZONES is %.40q; write the numbers of zones with commas, such as 1,2,3", r.getenv("DSVM_ZONES"))
	}
	if n.LogBound != "" {
		if _, err := job.ParseLogBound(n.LogBound); err != nil {
			r.fail("DSVM_LOG_BOUND", "DSVM_LOG_BOUND: %v", err)
		}
	}
	if _, isInVault := job.ParseSecretRef(n.DoorCertificate); n.DoorCertificate != "" && !isInVault {
		r.fail("DSVM_DOOR_CERTIFICATE", "DSVM_DOOR_CERTIFICATE is %.60q; write keyvault:VAULT/NAME, or leave it out", n.DoorCertificate)
	}
	r.checkAgent(n)
	n.ShareAuth = r.checkShare(n)
	return n
}

// checkAgent finds what is missing to fetch the agent to a node.
func (r *reader) checkAgent(n NodeSettings) {
	if (n.AgentURL == "") != (n.AgentSHA256 == "") {
		r.fail("DSVM_AGENT_URL", "DSVM_AGENT_URL and DSVM_AGENT_SHA256 go together: a node runs no program whose hash it cannot check")
	}
	if sum, err := hex.DecodeString(n.AgentSHA256); n.AgentSHA256 != "" && (err != nil || len(sum) != 32) {
		r.fail("DSVM_AGENT_SHA256", "DSVM_AGENT_SHA256 is no SHA-256 in hexadecimal digits; `sha256sum agent` prints it")
	}
	if n.AgentURL != "" && n.ClientID == "" {
		r.fail("DSVM_NODE_CLIENT_ID", "the setting DSVM_NODE_CLIENT_ID is missing: a node fetches the agent of DSVM_AGENT_URL with that identity")
	}
}

// checkShare finds what is missing to mount the share on a node. It returns how a node
// proves itself to the share.
func (r *reader) checkShare(n NodeSettings) string {
	if (n.ShareAccount == "") != (n.ShareName == "") {
		r.fail("DSVM_SHARE_ACCOUNT", "DSVM_SHARE_ACCOUNT and DSVM_SHARE_NAME go together: both name the share that nodes mount")
	}
	switch n.ShareAuth {
	case "", shareByKey:
		if n.ShareAccount != "" && n.ShareKeyURL == "" {
			r.fail("DSVM_SHARE_KEY_URL", "the setting DSVM_SHARE_KEY_URL is missing: "+
				"it names the vault's secret with the key of the share's account; or set DSVM_SHARE_AUTH to %s", shareByIdentity)
		}
		return shareByKey
	case shareByIdentity:
	default:
		r.fail("DSVM_SHARE_AUTH", "DSVM_SHARE_AUTH is %.40q; write %s or %s", n.ShareAuth, shareByKey, shareByIdentity)
	}
	return n.ShareAuth
}

// boot is what a node needs of the settings at its start. A resource manager on this
// machine is not in it: its port may change, and each change would replace all nodes.
func (s Settings) boot() boot.Config {
	n := s.Nodes
	c := boot.Config{
		Template:            infra.NodeTemplate,
		AgentURL:            n.AgentURL,
		AgentSHA256:         n.AgentSHA256,
		ClientID:            n.ClientID,
		ServiceBusNamespace: s.ServiceBusNamespace,
		WorkQueue:           s.Queues.Work,
		NodeEventsQueue:     s.Queues.NodeEvents,
		LogBound:            n.LogBound,
		DoorCertificate:     n.DoorCertificate,
		ShareKeyURL:         n.ShareKeyURL,
	}
	if n.ShareAccount != "" {
		c.Share = boot.Share{Account: n.ShareAccount, Name: n.ShareName, Auth: n.ShareAuth}
	}
	if strings.HasPrefix(s.ResourceManager, "https://") {
		c.ResourceManager = s.ResourceManager
	}
	return c
}
