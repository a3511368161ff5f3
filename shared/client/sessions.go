package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// OpenSession returns the live session of whoever calls in a pool. With the intent open it
// makes one where there is none, and isNew says so; with rejoin that is fault.SessionEnded.
func (c *Client) OpenSession(ctx context.Context, want wire.SessionRequest) (s wire.Session, isNew bool, err error) {
	isNew, err = c.post(ctx, "/api/sessions", want, &s)
	return s, isNew, err
}

// Session asks for one session.
func (c *Client) Session(ctx context.Context, id string) (wire.Session, error) {
	var s wire.Session
	return s, c.call(ctx, request{method: "GET", path: sessionPath(id)}, &s)
}

// Sessions lists the live sessions of a pool and of an account; "" = any.
func (c *Client) Sessions(ctx context.Context, pool, user string) ([]wire.Session, error) {
	return list[wire.Session](ctx, c, "/api/sessions", values("pool", pool, "user", user), everything)
}

// ExplainSession asks why a session is where it is.
func (c *Client) ExplainSession(ctx context.Context, id string) (wire.Explanation, error) {
	var e wire.Explanation
	return e, c.call(ctx, request{method: "GET", path: sessionPath(id) + "/explain"}, &e)
}

// StopSession asks for a session to end.
func (c *Client) StopSession(ctx context.Context, id string) (wire.Session, error) {
	var s wire.Session
	return s, c.call(ctx, request{method: "POST", path: sessionPath(id) + "/stop"}, &s)
}

// ExtendSession has a session kept for a time from now.
func (c *Client) ExtendSession(ctx context.Context, id string, by time.Duration) (wire.Session, error) {
	var s wire.Session
	_, err := c.post(ctx, sessionPath(id)+"/extend", wire.SessionExtend{For: job.Duration(by)}, &s)
	return s, err
}

// CertifySession has a key signed for SSH: a line of OpenSSH.
func (c *Client) CertifySession(ctx context.Context, id, publicKey string) (wire.SessionCertificate, error) {
	var out wire.SessionCertificate
	_, err := c.post(ctx, sessionPath(id)+"/certificate", wire.CertificateRequest{PublicKey: publicKey}, &out)
	return out, err
}

// CertifyJob has a key signed for SSH into the running attempt of a job, on the node of a rank.
func (c *Client) CertifyJob(ctx context.Context, id, publicKey string, rank int) (wire.SessionCertificate, error) {
	var out wire.SessionCertificate
	_, err := c.post(ctx, "/api/jobs/"+url.PathEscape(id)+"/certificate", wire.JobCertificateRequest{PublicKey: publicKey, Rank: rank}, &out)
	return out, err
}

// CertifyNode has a key signed for SSH to a node as a whole, for an operator; reason is for the audit
// trail. pool is the node's, or "" for any.
func (c *Client) CertifyNode(ctx context.Context, pool, node, publicKey, reason string) (wire.SessionCertificate, error) {
	var out wire.SessionCertificate
	path := nodePath(node) + "/certificate?" + values("pool", pool, "reason", reason).Encode()
	_, err := c.post(ctx, path, wire.CertificateRequest{PublicKey: publicKey}, &out)
	return out, err
}

// Lab asks for the address of the JupyterLab of a session, which is good once.
func (c *Client) Lab(ctx context.Context, id string) (wire.SessionLab, error) {
	var lab wire.SessionLab
	return lab, c.call(ctx, request{method: "POST", path: sessionPath(id) + "/jupyter"}, &lab)
}

// Desktop asks for what one connection to the desktop of a session needs. Until its node has
// made the password, Sealed is "".
func (c *Client) Desktop(ctx context.Context, id, publicKey string) (wire.SessionDesktop, error) {
	var out wire.SessionDesktop
	_, err := c.post(ctx, sessionPath(id)+"/desktop", wire.DesktopRequest{PublicKey: publicKey}, &out)
	return out, err
}

func sessionPath(id string) string { return "/api/sessions/" + url.PathEscape(id) }

// post sends a document, which is harmless twice, and reads the answer. isAccepted: the
// instance has begun something new.
func (c *Client) post(ctx context.Context, path string, document, into any) (isAccepted bool, err error) {
	body, err := json.Marshal(document)
	if err != nil {
		return false, err
	}
	r := request{method: "POST", path: path, body: body, header: http.Header{"Content-Type": {"application/json"}},
		accepted: &isAccepted}
	err = c.call(ctx, r, into)
	return isAccepted, err
}
