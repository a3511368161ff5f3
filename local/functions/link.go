package functions

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/tolerant"
)

// Times of a link.
const (
	// openTime bounds the opening of a connection: a few round trips.
	openTime = 30 * time.Second
	// drainTime bounds the wait for the answer to a drain of the credit.
	drainTime = 10 * time.Second
	// tokenTime is the validity of the tokens that makeToken signs.
	tokenTime = time.Hour
	// tokenMargin is how long before the end of its token a queue is opened again.
	tokenMargin = 10 * time.Minute
)

// address is a namespace and the credential for it, from a connection setting.
type address struct {
	host  string // with its port, if the setting has one
	plain bool   // an emulator, without TLS
	name  string // of the key; "" = the developer's own identity
	key   string
	token string // a signed token from the setting
}

func readAddress(settings map[string]string, connection string) (a address, err error) {
	text := settings[connection]
	if a.host, a.plain = tolerant.Endpoint(text); text == "" {
		a.host = settings[connection+namespaceSuffix]
	}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "sharedaccesskeyname":
			a.name = value
		case "sharedaccesskey":
			a.key = value
		case "sharedaccesssignature":
			a.token = value
		}
	}
	if a.host == "" {
		return a, fmt.Errorf("the setting %s does not lead to Service Bus: it has no Endpoint", connection)
	}
	return a, nil
}

// audience returns the resource of a token.
func (a address) audience(queue string) string {
	scheme := "amqps"
	if a.plain {
		scheme = "amqp"
	}
	return fmt.Sprintf("%s://%s/%s", scheme, a.host, queue)
}

// makeToken signs a token for a queue, or gets one for the developer's own identity.
func (a address) makeToken(ctx context.Context, queue string, now time.Time) (kind, token string, until time.Time, err error) {
	const own, bearer = "servicebus.windows.net:sastoken", "jwt"
	until = now.Add(tokenTime)
	switch {
	case a.token != "":
		return own, a.token, until, nil
	case a.key != "":
		resource, end := url.QueryEscape(a.audience(queue)), fmt.Sprint(until.Unix())
		mac := hmac.New(sha256.New, []byte(a.key))
		mac.Write([]byte(resource + "\n" + end))
		sign := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		return own, fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", resource, sign, end, url.QueryEscape(a.name)), until, nil
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return "", "", until, err
	}
	got, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://servicebus.azure.net//.default"}})
	return bearer, got.Token, got.ExpiresOn, err
}

// linkSource is a queue, received over its own link. The link has credit only during a
// receive, so other messages stay in the queue for other receivers.
type linkSource struct {
	wire     *tolerant.Conn
	conn     *amqp.Conn
	receiver *amqp.Receiver
	credit   int // messages that the server may still send
	until    time.Time
}

// openLink opens a queue for batches.
func openLink(ctx context.Context, settings map[string]string, connection, queue string) (source, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	a, err := readAddress(settings, connection)
	if err != nil {
		return nil, err
	}
	s := &linkSource{}
	if s.wire, err = tolerant.Dial(ctx, a.host, a.plain); err != nil {
		return nil, fmt.Errorf("Service Bus cannot be reached: %w", err)
	}
	if s.conn, err = amqp.NewConn(ctx, s.wire, &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous(), HostName: a.host}); err != nil {
		s.wire.Close()
		return nil, fmt.Errorf("Service Bus does not answer: %w", err)
	}
	if err := s.attach(ctx, a, queue); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("the queue %s cannot be opened: %w", queue, err)
	}
	return s, nil
}

func (s *linkSource) attach(ctx context.Context, a address, queue string) error {
	session, err := s.conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	kind, token, until, err := a.makeToken(ctx, queue, time.Now())
	if err != nil {
		return err
	}
	s.until = until
	if err := putToken(ctx, session, a.audience(queue), kind, token, until); err != nil {
		return err
	}
	s.receiver, err = session.NewReceiver(ctx, queue, &amqp.ReceiverOptions{Credit: -1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
	return err
}

// putToken authorizes this connection for a queue.
func putToken(ctx context.Context, session *amqp.Session, audience, kind, token string, until time.Time) error {
	const cbs, answers = "$cbs", "answers"
	sender, err := session.NewSender(ctx, cbs, nil)
	if err != nil {
		return err
	}
	defer sender.Close(ctx)
	receiver, err := session.NewReceiver(ctx, cbs, &amqp.ReceiverOptions{TargetAddress: answers, Credit: 1})
	if err != nil {
		return err
	}
	defer receiver.Close(ctx)
	to := answers
	err = sender.Send(ctx, &amqp.Message{Value: token, Properties: &amqp.MessageProperties{MessageID: "token", ReplyTo: &to},
		ApplicationProperties: map[string]any{"operation": "put-token", "type": kind, "name": audience, "expiration": until}}, nil)
	if err != nil {
		return err
	}
	answer, err := receiver.Receive(ctx, nil)
	if err != nil {
		return err
	}
	if err := receiver.AcceptMessage(ctx, answer); err != nil {
		return err
	}
	if code, _ := answer.ApplicationProperties["status-code"].(int32); code < 200 || code > 299 {
		return fmt.Errorf("Service Bus does not take the key: %v (%d)", answer.ApplicationProperties["status-description"], code)
	}
	return nil
}

// errTokenAge makes the loop open the queue again, with a new token.
var errTokenAge = errors.New("the token for Service Bus ends soon")

// receive waits for a first message, takes the others that the queue has, and withdraws the
// rest of the credit.
func (s *linkSource) receive(ctx context.Context, most int) ([]*delivery, error) {
	if time.Until(s.until) < tokenMargin {
		return nil, errTokenAge
	}
	if n := most - s.credit; n > 0 {
		if err := s.receiver.IssueCredit(uint32(n)); err != nil {
			return nil, err
		}
		s.credit = most
	}
	bounded, cancel := context.WithTimeout(ctx, receiveTime)
	defer cancel()
	first, err := s.receiver.Receive(bounded, nil)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = nil // no message came; the credit remains
		}
		return nil, err
	}
	got := []*delivery{s.take(first)}
	more, err := s.drain(context.WithoutCancel(ctx))
	return append(got, more...), err
}

// drain ends the credit: the server sends the messages that it has, up to the credit, and
// confirms.
func (s *linkSource) drain(ctx context.Context) (got []*delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err = s.receiver.DrainCredit(ctx, nil)
	for m := s.receiver.Prefetched(); m != nil; m = s.receiver.Prefetched() {
		got = append(got, s.take(m))
	}
	s.credit = 0
	return got, err
}

func (s *linkSource) take(m *amqp.Message) *delivery {
	o, _ := s.wire.Take(m.DeliveryTag)
	return newDelivery(m, o)
}

func (s *linkSource) complete(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.AcceptMessage(ctx, d.handle.(*amqp.Message))
}

func (s *linkSource) abandon(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.ModifyMessage(ctx, d.handle.(*amqp.Message), nil)
}

// renew is not supported: this mode renews no locks.
func (s *linkSource) renew(context.Context, *delivery) error { return errors.ErrUnsupported }

// close abandons the messages that came after the last receive.
func (s *linkSource) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if s.credit > 0 {
		late, _ := s.drain(ctx)
		for _, d := range late {
			_ = s.abandon(ctx, d)
		}
	}
	_ = s.receiver.Close(ctx)
	_ = s.conn.Close()
}
