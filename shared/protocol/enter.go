package protocol

import "strconv"

// FeatureExec is WorkItem.Enter: the agent lets people in to the attempts that run on its node.
const FeatureExec = "exec"

// FeatureShell is WorkItem.Enter with the name of a node: the agent lets operators in to its node.
const FeatureShell = "shell"

// Enter asks a node to listen at the relay for somebody who has been given a certificate for a
// running attempt, or for the node as a whole. The node leads who shows it there, and nowhere
// else. It may come twice, and nobody need come. An agent that starts again has forgotten it: the
// attempt has ended, and so has what operators ran.
type Enter struct {
	ID     string `json:"id"`     // what the certificate is for, and what who comes asks for: EntryOfAttempt or EntryOfNode
	Target int64  `json:"target"` // number of the assignment; 0 = the node as a whole
	// For is how many seconds the door stays open after this message, and after the last
	// connection. The agent bounds it.
	For int64 `json:"for"`
	// CAs are the public keys that sign the certificates of people, as lines of OpenSSH, and Door is
	// where to listen. The driver adds both when it sends the message.
	CAs  []string `json:"cas,omitempty"`
	Door *Door    `json:"door,omitempty"`
}

// EntryOfAttempt names what one assignment of a job runs on a node, for certificates and doors. No
// session has such a name, since no id of a job has a colon.
func EntryOfAttempt(job string, n int64) string {
	return "attempt:" + job + "/" + strconv.FormatInt(n, 10)
}

// EntryOfNode names a node as a whole, for certificates and doors.
func EntryOfNode(vmid string) string { return "node:" + vmid }
