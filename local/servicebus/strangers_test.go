package servicebus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus"
)

// secured starts a server with a certificate of its own.
func secured(t *testing.T) (s *servicebus.Server, certificate string) {
	t.Helper()
	certificate = filepath.Join(t.TempDir(), "bus.pem")
	s, err := servicebus.Start(servicebus.Config{
		Addr:            "127.0.0.1:0",
		Path:            filepath.Join(t.TempDir(), "bus.db"),
		Queues:          []servicebus.QueueConfig{{Name: "jobs"}, {Name: "on", ForwardTo: "jobs"}, {Name: "limited", DefaultTTL: 100 * time.Second}},
		AccessKeys:      rules,
		CertificatePath: certificate,
	})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s, certificate
}

func TestPlainAndTLSOnOnePort(t *testing.T) {
	t.Parallel()
	s, certificate := secured(t)
	pem, err := os.ReadFile(certificate)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	_, port, _ := strings.Cut(s.Addr(), ":")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, server := range []string{"localhost", "127.0.0.1", "localhost:" + port} {
		c, err := amqp.Dial(ctx, "amqps://localhost:"+port, &amqp.ConnOptions{
			SASLType: amqp.SASLTypeAnonymous(), TLSConfig: &tls.Config{RootCAs: roots, ServerName: server}})
		if err != nil {
			t.Errorf("%s: %v", server, err)
			continue
		}
		c.Close()
	}
	dial(t, s)
	if _, err := amqp.Dial(ctx, "amqps://localhost:"+port, nil); err == nil {
		t.Error("a client that does not know the certificate trusts it")
	}
}

// A client that speaks SASL PLAIN has the rights of its key and no others.
func TestKeyInPlainSASL(t *testing.T) {
	t.Parallel()
	s, _ := secured(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	open := func(name, key string) (*amqp.Session, error) {
		c, err := amqp.Dial(ctx, "amqp://"+s.Addr(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(name, key)})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		return c.NewSession(ctx, nil)
	}
	session, err := open("root", "cm9vdA==")
	must(t, err)
	sender, err := session.NewSender(ctx, "jobs", nil)
	must(t, err)
	must(t, sender.Send(ctx, amqp.NewMessage([]byte("x")), nil))
	if _, err := session.NewReceiver(ctx, "on", nil); condition(err) != amqp.ErrCondNotAllowed {
		t.Errorf("a receiver on a queue that forwards: got %v", err)
	}
	for _, pair := range [][2]string{{"root", "wrong"}, {"nobody", "cm9vdA=="}, {"root", ""}} {
		if _, err := open(pair[0], pair[1]); err == nil {
			t.Errorf("%v: the server takes it", pair)
		}
	}
}

// administer sends a request to the administration.
func administer(t *testing.T, s *servicebus.Server, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", token("http://"+s.Addr()+"/", "root", "cm9vdA==", time.Now().Add(time.Hour)))
	r.Header.Set("Content-Type", "application/atom+xml")
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(text)
}

func TestAdministrationNamespaces(t *testing.T) {
	t.Parallel()
	s, _ := secured(t)
	for path, want := range map[string][]string{
		"/jobs": {
			`<QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"><LockDuration>`,
			`<CountDetails xmlns:d2p1="http://schemas.microsoft.com/netservices/2011/06/servicebus"><d2p1:ActiveMessageCount>0<`,
			"<EnableExpress>false<", "<EntityAvailabilityStatus>Available<", "<SupportOrdering>true<", "<IsAnonymousAccessible>false<",
		},
		"/$namespaceinfo": {`<NamespaceInfo xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">`},
	} {
		status, body := administer(t, s, http.MethodGet, path, "")
		for _, part := range want {
			if status != http.StatusOK || !strings.Contains(body, part) {
				t.Errorf("%s: %d without %s:\n%s", path, status, part, body)
			}
		}
	}
}

func TestAdministrationRefuses(t *testing.T) {
	t.Parallel()
	s, _ := secured(t)
	entry := func(kind string) string {
		return `<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><` + kind +
			` xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"/></content></entry>`
	}
	if status, body := administer(t, s, http.MethodPut, "/t", entry("TopicDescription")); status != 400 || !strings.Contains(body, "Topics") {
		t.Errorf("a topic: %d %s", status, body)
	}
	for _, name := range []string{"bad%20name", "a!b", "a+b", "a;b", "a(b", "%C3%BC", ".a", "a-"} {
		if status, body := administer(t, s, http.MethodPut, "/"+name, entry("QueueDescription")); status != 400 || !strings.Contains(body, "SubCode=40000") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, name := range []string{"a", "a.b-c_d/e~f", "_a_"} {
		if status, body := administer(t, s, http.MethodPut, "/"+name, entry("QueueDescription")); status != 201 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// The absolute-expiry-time is the time at which the queue drops a message, whatever the
// sender wrote. SDKs show it as the end of the message.
func TestAbsoluteExpiryIsThatOfTheQueue(t *testing.T) {
	t.Parallel()
	s, _ := secured(t)
	w := dial(t, s)
	w.claim("limited")
	w.claim("jobs")
	now := time.Now().Truncate(time.Millisecond)
	day := 24 * time.Hour
	for _, c := range []struct {
		name, queue string
		ttl         time.Duration // of the sender
		want        time.Duration // after the message was enqueued; 0 = it never expires
	}{
		{"the queue's", "limited", day, 100 * time.Second},
		{"the sender's, which is shorter", "limited", 10 * time.Second, 10 * time.Second},
		{"the queue's, since the sender has none", "limited", 0, 100 * time.Second},
		{"the sender's alone", "jobs", day, day},
		{"none", "jobs", 0, 0},
	} {
		session := w.session()
		sender, err := session.NewSender(w.ctx, c.queue, nil)
		must(t, err)
		id, created, expiry, group := "one", now, now.Add(day+time.Hour), "g"
		must(t, sender.Send(w.ctx, &amqp.Message{
			Header:     &amqp.MessageHeader{TTL: c.ttl},
			Properties: &amqp.MessageProperties{MessageID: id, CreationTime: &created, AbsoluteExpiryTime: &expiry, GroupID: &group},
			Data:       [][]byte{[]byte("x")},
		}, nil))
		receiver, err := session.NewReceiver(w.ctx, c.queue, nil)
		must(t, err)
		m, err := receiver.Receive(w.ctx, nil)
		must(t, err)
		must(t, receiver.AcceptMessage(w.ctx, m))
		must(t, receiver.Close(w.ctx))
		enqueued, _ := m.Annotations["x-opt-enqueued-time"].(time.Time)
		got := time.Duration(0)
		if at := m.Properties.AbsoluteExpiryTime; at != nil {
			got = at.Sub(enqueued)
		}
		if got != c.want || m.Header.TTL != c.want {
			t.Errorf("%s: got %v after the message came, and a TTL of %v, want %v", c.name, got, m.Header.TTL, c.want)
		}
		p := m.Properties
		if p.MessageID != id || p.GroupID == nil || *p.GroupID != group || p.CreationTime == nil || !p.CreationTime.Equal(created) {
			t.Errorf("%s: the other properties have changed: %+v", c.name, p)
		}
	}
}

// received is a connection that keeps all bytes that it has read.
type received struct {
	net.Conn
	all bytes.Buffer
	end chan struct{} // closed with the first error
}

func (r *received) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if n > 0 {
		r.all.Write(b[:n])
	}
	if err != nil {
		select {
		case <-r.end:
		default:
			close(r.end)
		}
	}
	return n, err
}

// TestLostConnectionHasNoFarewell loses a connection with TLS as a network does, without the
// alert that closes it: the SDK of Java takes that alert for a pause.
func TestLostConnectionHasNoFarewell(t *testing.T) {
	t.Parallel()
	certificate := filepath.Join(t.TempDir(), "bus.pem")
	set := chaos.New(1)
	_, err := set.Add(chaos.Injection{Target: "servicebus/send/jobs", Do: chaos.Disconnect, Count: 1})
	must(t, err)
	s, err := servicebus.Start(servicebus.Config{
		Addr:            "127.0.0.1:0",
		Path:            filepath.Join(t.TempDir(), "bus.db"),
		Queues:          []servicebus.QueueConfig{{Name: "jobs"}},
		AccessKeys:      rules,
		CertificatePath: certificate,
		Chaos:           set,
	})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	pem, err := os.ReadFile(certificate)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	raw, err := net.Dial("tcp", s.Addr())
	must(t, err)
	below := &received{Conn: raw, end: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Up to version 1.2 everybody sees the type of a record.
	secure := tls.Client(below, &tls.Config{RootCAs: roots, ServerName: "localhost", MaxVersion: tls.VersionTLS12})
	c, err := amqp.NewConn(ctx, secure, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("root", "cm9vdA==")})
	must(t, err)
	defer c.Close()
	session, err := c.NewSession(ctx, nil)
	must(t, err)
	sender, err := session.NewSender(ctx, "jobs", nil)
	must(t, err)
	if err := sender.Send(ctx, amqp.NewMessage([]byte("x")), nil); err == nil {
		t.Error("the message is accepted, and its connection was to be lost")
	}
	select {
	case <-below.end:
	case <-ctx.Done():
		t.Fatal("the connection goes on")
	}
	const header, alert = 5, 21 // length of a record's header, and a type
	for rest := below.all.Bytes(); len(rest) >= header; {
		if rest[0] == alert {
			t.Error("the server says an alert, with which TLS closes a connection")
		}
		rest = rest[min(len(rest), header+int(binary.BigEndian.Uint16(rest[3:]))):]
	}
}

// A queue that forwards has no messages to receive or to look at, and says so.
func TestForwardingQueueIsNotRead(t *testing.T) {
	t.Parallel()
	s, _ := secured(t)
	w := dial(t, s)
	w.claim("on")
	w.claim("on/$management")
	if _, err := w.session().NewReceiver(w.ctx, "on", nil); condition(err) != amqp.ErrCondNotAllowed {
		t.Errorf("a receiver: got %v", err)
	}
	status, m := w.node("on/$management").ask(map[string]any{"operation": "com.microsoft:peek-message"},
		map[string]any{"from-sequence-number": int64(0), "message-count": int32(1)})
	if text, _ := m.ApplicationProperties["statusDescription"].(string); status != 400 || !strings.Contains(text, "auto-forwarding") {
		t.Errorf("a look: got %d %v", status, m.ApplicationProperties)
	}
	sender, err := w.session().NewSender(w.ctx, "on", nil)
	must(t, err)
	must(t, sender.Send(w.ctx, amqp.NewMessage([]byte("x")), nil))
}
