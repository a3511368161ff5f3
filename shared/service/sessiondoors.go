package service

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/sshca"
	"dsvmpools/shared/wire"
)

// ticketLife is how long a ticket for the browser is good for: the browser opens its address
// at once.
const ticketLife = time.Minute

// Certificate signs a certificate for SSH, and says which ways lead to the session. The
// caller is its owner, and the session is ready on a node that is neither lost nor fenced.
func (s *Sessions) Certificate(ctx context.Context, id, publicKey string) (wire.SessionCertificate, error) {
	j, node, head, err := s.enter(ctx, id)
	if err != nil {
		return wire.SessionCertificate{}, err
	}
	switch {
	case s.doors == nil:
		return wire.SessionCertificate{}, errNoDoors()
	case node.Missing[protocol.MissingSSH] != "":
		return wire.SessionCertificate{}, lacks(node, "SSH", node.Missing[protocol.MissingSSH])
	case len(node.HostKeys) == 0:
		return wire.SessionCertificate{}, fault.New(fault.Conflict, "id",
			"node %q has told no host key, so that nobody could know it is the right one; "+
				"`dsvm session stop` and `dsvm connect %s` get another node", node.Name, j.Spec.Pool)
	}
	cert, err := s.doors.ca.Sign(ctx, sshca.Login{PublicKey: publicKey, User: j.Spec.User, For: sshca.Principal(j.ID), At: s.now()})
	if err != nil {
		return wire.SessionCertificate{}, err
	}
	out := wire.SessionCertificate{
		Certificate: cert.Line,
		ValidBefore: cert.ValidBefore,
		Principal:   cert.Principal,
		User:        j.Spec.User,
		KnownHosts:  make([]string, len(node.HostKeys)),
	}
	for i, key := range node.HostKeys {
		out.KnownHosts[i] = j.Spec.Pool + wire.HostSuffix + " " + strings.TrimSpace(key)
	}
	out.Doors, err = s.doors.ways(&head, node, j.ID, s.now())
	return out, err
}

// Lab returns the address at which the owner of a session opens its JupyterLab in a browser,
// once. See Certificate for who may.
func (s *Sessions) Lab(ctx context.Context, id string) (wire.SessionLab, error) {
	j, node, head, err := s.enter(ctx, id)
	if err != nil {
		return wire.SessionLab{}, err
	}
	if s.doors == nil {
		return wire.SessionLab{}, errNoDoors()
	}
	if why := head.Spec.WithoutLab(); why != "" {
		return wire.SessionLab{}, fault.New(fault.Conflict, "id", "session %q has no JupyterLab: %s", j.ID, why)
	}
	if why := node.Missing[protocol.MissingJupyter]; why != "" {
		return wire.SessionLab{}, lacks(node, "JupyterLab", why)
	}
	ticket, err := signTicket(s.doors.ticketKey, ticket{
		Session: j.ID,
		User:    j.Spec.User,
		Expires: s.now().Add(ticketLife).Unix(),
		Nonce:   rand.Text(),
	})
	if err != nil {
		return wire.SessionLab{}, err
	}
	address, err := s.doors.login(&head, node, j.ID, ticket, s.now())
	return wire.SessionLab{URL: address}, err
}

// lacks is the error of a way into a session that its node does not have.
func lacks(n *pool.Node, way, why string) error {
	return fault.New(fault.Conflict, "id", "node %q has no %s: %s", n.Name, way, why)
}

// enter finds a session that its owner, who calls, can come into now, its node, and
// the head of its pool.
func (s *Sessions) enter(ctx context.Context, id string) (j *pool.Job, node *pool.Node, head pool.Head, err error) {
	j, err = s.owned(ctx, id)
	if err != nil {
		return nil, nil, head, err
	}
	switch {
	case j.State.Final():
		return nil, nil, head, fault.New(fault.SessionEnded, "", "session %q has ended; start another with `dsvm connect %s`", j.ID, j.Spec.Pool)
	case j.State != job.Running || j.Cancel != "":
		return nil, nil, head, fault.New(fault.Conflict, "id", "session %q is not ready; `dsvm connect %s` waits for it", j.ID, j.Spec.Pool)
	}
	head, nodes, _, err := s.driver.Nodes(ctx, j.Spec.Pool)
	if err != nil {
		return nil, nil, head, err
	}
	if err := s.stayMember(ctx, j, head.Spec.Users); err != nil {
		return nil, nil, head, err
	}
	node = nodeOf(j, nodes)
	if node == nil || !letsIn(node) {
		return nil, nil, head, fault.New(fault.Conflict, "id",
			"the node of session %q is lost; the session ends, and `dsvm connect %s` makes another", j.ID, j.Spec.Pool)
	}
	return j, node, head, nil
}

// errNoDoors is the error of a deployment that lets nobody in.
func errNoDoors() error {
	return fault.New(fault.Invalid, "",
		"this deployment has no relay and no key for certificates; set DSVM_RELAY and DSVM_SSH_CA (docs/interactive.md)")
}

// letsIn reports whether people may come to a node: its agent is the one that the pool knows.
func letsIn(n *pool.Node) bool {
	return slices.Contains([]pool.NodeState{pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeQuarantined}, n.State)
}

// ticket opens a session in a browser, or its desktop, once.
type ticket struct {
	Session string `json:"s"`
	User    string `json:"u"`
	For     string `json:"f,omitempty"` // relay.TicketDesktop; "" = JupyterLab
	Expires int64  `json:"e"`           // seconds since 1970
	Nonce   string `json:"n"`
}

// signTicket writes a ticket as the door of a node reads it.
func signTicket(key ed25519.PrivateKey, t ticket) (string, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString
	return text(body) + "." + text(ed25519.Sign(key, body)), nil
}
