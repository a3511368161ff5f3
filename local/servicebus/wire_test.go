package servicebus_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"dsvmpools/local/servicebus"
)

// wire is a connection by the AMQP library alone, without what the SDK does by
// itself.
type wire struct {
	*amqp.Conn
	t    *testing.T
	ctx  context.Context
	addr string
}

func dial(t *testing.T, s *servicebus.Server) wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	c, err := amqp.Dial(ctx, "amqp://"+s.Addr(), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	must(t, err)
	t.Cleanup(func() { c.Close(); cancel() })
	return wire{c, t, ctx, s.Addr()}
}

func (w wire) session() *amqp.Session {
	w.t.Helper()
	s, err := w.NewSession(w.ctx, nil)
	must(w.t, err)
	return s
}

// node is a pair of links to $cbs or a management node.
type node struct {
	wire
	out *amqp.Sender
	in  *amqp.Receiver
}

func (w wire) node(address string) node {
	w.t.Helper()
	s := w.session()
	out, err := s.NewSender(w.ctx, address, nil)
	must(w.t, err)
	in, err := s.NewReceiver(w.ctx, address, &amqp.ReceiverOptions{TargetAddress: address + "-answers"})
	must(w.t, err)
	return node{w, out, in}
}

// ask sends a request and returns the answer with its status.
func (n node) ask(props map[string]any, body any) (status int32, answer *amqp.Message) {
	n.t.Helper()
	replyTo := n.in.Address() + "-answers"
	must(
		n.t,
		n.out.Send(
			n.ctx,
			&amqp.Message{
				Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: &replyTo},
				ApplicationProperties: props,
				Value:                 body,
			},
			nil,
		),
	)
	m, err := n.in.Receive(n.ctx, nil)
	must(n.t, err)
	must(n.t, n.in.AcceptMessage(n.ctx, m))
	status, _ = m.ApplicationProperties["statusCode"].(int32)
	return status, m
}

// token signs one for an address.
func token(address, rule, key string, until time.Time) string {
	sr, se := strings.ToLower(url.QueryEscape(address)), fmt.Sprint(until.Unix())
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	return fmt.Sprintf(
		"SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s",
		sr,
		url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))),
		se,
		rule,
	)
}

// claim puts a token of the rule "root" for an entity.
func (w wire) claim(entity string) {
	w.t.Helper()
	w.claimAs("amqp://"+w.addr+"/"+entity, entity)
}

// claimAs names the entity in a form of its own.
func (w wire) claimAs(name, entity string) {
	w.t.Helper()
	n := w.node("$cbs")
	status, m := n.ask(map[string]any{"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": name},
		token("amqp://"+w.addr+"/"+entity, "root", "cm9vdA==", time.Now().Add(time.Hour)))
	if status != 202 {
		w.t.Fatalf("claim for %s: got %d %v", entity, status, m.ApplicationProperties)
	}
	must(w.t, n.out.Close(w.ctx))
	must(w.t, n.in.Close(w.ctx))
}

func condition(err error) amqp.ErrCond {
	var link *amqp.LinkError
	var plain *amqp.Error
	switch {
	case errors.As(err, &link) && link.RemoteErr != nil:
		return link.RemoteErr.Condition
	case errors.As(err, &plain):
		return plain.Condition
	}
	return ""
}

func TestAClaimOnTheManagementNodeAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "plain", message("x"))
	w := dial(t, f.Server)
	w.claim("plain/$management")
	status, m := w.node("plain/$management").ask(map[string]any{"operation": "com.microsoft:peek-message"},
		map[string]any{"from-sequence-number": int64(1), "message-count": int32(1)})
	if status != 200 {
		t.Errorf("peek: got %d %v, want 200", status, m.ApplicationProperties)
	}
	_, err := w.session().NewReceiver(w.ctx, "plain", nil)
	if got := condition(err); got != "amqp:unauthorized-access" {
		t.Errorf("a receiver without a claim for the queue: got %v, want it refused", err)
	}
}

// TestNamesOfClaims: clients name what they claim by an address, or by the
// entity's path alone.
func TestNamesOfClaims(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{"sb://any:5672/Plain", "amqps://any/plain/", "plain", "/PLAIN"} {
		w := dial(t, f.Server)
		w.claimAs(name, "plain")
		if _, err := w.session().NewReceiver(w.ctx, "plain", nil); err != nil {
			t.Errorf("a claim named %s: %v", name, err)
		}
	}
}

func TestALostSessionLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "shortwork", inSession("a", "x"))
	w := dial(t, f.Server)
	w.claim("shortwork")
	r, err := w.session().
		NewReceiver(w.ctx, "shortwork", &amqp.ReceiverOptions{Name: "holder", SettlementMode: amqp.ReceiverSettleModeSecond.Ptr(),
			Filters: []amqp.LinkFilter{amqp.NewLinkFilter("com.microsoft:session-filter", 0x137000000C, "a")}})
	must(t, err)
	m, err := r.Receive(w.ctx, nil)
	must(t, err)
	_, err = r.Receive(w.ctx, nil) // until the lock has ended
	if got := condition(err); got != "com.microsoft:session-lock-lost" {
		t.Fatalf("the link after its lock ended: got %v, want session-lock-lost", err)
	}
	if err := r.AcceptMessage(w.ctx, m); err == nil {
		t.Error("a message was settled on a link that had lost its session")
	}
	manage := w.node("shortwork/$management")
	lock := amqp.UUID(swapGUIDBytes(m.DeliveryTag))
	for operation, body := range map[string]map[string]any{
		"renew-session-lock": {"session-id": "a"},
		"get-session-state":  {"session-id": "a"},
		"set-session-state":  {"session-id": "a", "session-state": []byte("late")},
		"update-disposition": {"disposition-status": "completed", "lock-tokens": []amqp.UUID{lock}},
		"peek-message":       {"from-sequence-number": int64(0), "message-count": int32(1)},
	} {
		status, answer := manage.ask(map[string]any{"operation": "com.microsoft:" + operation, "associated-link-name": "holder"}, body)
		if status != 410 {
			t.Errorf("%s: got %d %v, want 410", operation, status, answer.ApplicationProperties)
		}
	}
	next, err := f.client.AcceptSessionForQueue(f.ctx, "shortwork", "a", nil)
	must(t, err)
	if m := f.one(t, next); m.DeliveryCount != 2 {
		t.Errorf("the next holder: got delivery count %d, want 2", m.DeliveryCount)
	}
	if state, err := next.GetSessionState(f.ctx, nil); err != nil || state != nil {
		t.Errorf("state: got %q, %v, want none", state, err)
	}
}

// swapGUIDBytes converts a delivery tag to the lock token that management operations name.
func swapGUIDBytes(b []byte) (out [16]byte) {
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		out[i] = b[from]
	}
	return out
}

// TestPeekAndFetchInASession: the SDK says only by its link's name which session
// it means.
func TestPeekAndFetchInASession(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "work", inSession("a", "a1"), inSession("b", "b1"), inSession("a", "a2"))
	a, err := f.client.AcceptSessionForQueue(f.ctx, "work", "a", nil)
	must(t, err)
	b, err := f.client.AcceptSessionForQueue(f.ctx, "work", "b", nil)
	must(t, err)
	peeked, err := a.PeekMessages(f.ctx, 10, nil)
	must(t, err)
	var got []string
	for _, m := range peeked {
		got = append(got, string(m.Body))
	}
	if fmt.Sprint(got) != "[a1 a2]" {
		t.Errorf("peek in session a: got %q, want a1 and a2", got)
	}
	m := f.one(t, b)
	must(t, b.DeferMessage(f.ctx, m, nil))
	if _, err := a.ReceiveDeferredMessages(f.ctx, []int64{*m.SequenceNumber}, nil); err == nil {
		t.Error("session a was given a message of session b")
	}
	deferred, err := b.ReceiveDeferredMessages(f.ctx, []int64{*m.SequenceNumber}, nil)
	if err != nil || len(deferred) != 1 || string(deferred[0].Body) != "b1" {
		t.Fatalf("deferred: got %d messages, %v", len(deferred), err)
	}
	must(t, b.CompleteMessage(f.ctx, deferred[0], nil))
}

func TestOnePairOfLinksOnCBS(t *testing.T) {
	t.Parallel()
	w := dial(t, setup(t).Server)
	n := w.node("$cbs")
	_, err := w.session().NewReceiver(w.ctx, "$cbs", nil)
	if got := condition(err); got != "amqp:not-allowed" {
		t.Errorf("a second receiver: got %v, want not-allowed", err)
	}
	must(t, n.in.Close(w.ctx))
	if _, err = w.session().NewReceiver(w.ctx, "$cbs", nil); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}
