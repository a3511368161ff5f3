package servicebus_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"dsvmpools/local/servicebus"
)

// plainHTTP has the administration's client speak HTTP without TLS.
type plainHTTP struct{}

func (plainHTTP) Do(r *http.Request) (*http.Response, error) {
	r.URL.Scheme = "http"
	return http.DefaultClient.Do(r)
}

func administration(tb testing.TB, connection string) *admin.Client {
	tb.Helper()
	c, err := admin.NewClientFromConnectionString(
		connection,
		&admin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: plainHTTP{}, Retry: policy.RetryOptions{MaxRetries: -1}}},
	)
	must(tb, err)
	return c
}

func create(tb testing.TB, c *admin.Client, name string, p admin.QueueProperties) {
	tb.Helper()
	_, err := c.CreateQueue(context.Background(), name, &admin.CreateQueueOptions{Properties: &p})
	must(tb, err)
}

func status(err error) int {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

func TestQueuesComeAndGo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bus.db")
	cfg := servicebus.Config{Addr: "127.0.0.1:0", Path: path, Queues: queues, AccessKeys: rules}
	s, err := servicebus.Start(cfg)
	must(t, err)
	c := administration(t, s.ConnectionString("root"))
	create(t, c, "New", admin.QueueProperties{MaxDeliveryCount: to.Ptr(int32(7)), UserMetadata: to.Ptr("about")})
	create(t, c, "gone", admin.QueueProperties{})
	if _, err := c.CreateQueue(t.Context(), "nEW", nil); status(err) != http.StatusConflict {
		t.Errorf("created twice: got %v, want a conflict", err)
	}
	_, err = c.DeleteQueue(t.Context(), "gone", nil)
	must(t, err)
	must(t, s.Close())

	f := start(t, path)
	c = administration(t, f.ConnectionString("root"))
	q, err := c.GetQueue(f.ctx, "new", nil)
	must(t, err)
	if q == nil || *q.MaxDeliveryCount != 7 || *q.UserMetadata != "about" {
		t.Fatalf("after a restart: got %+v", q)
	}
	if q, err := c.GetQueue(f.ctx, "gone", nil); q != nil || err != nil {
		t.Errorf("a deleted queue: got %+v, %v", q, err)
	}
	if _, err := c.DeleteQueue(f.ctx, "gone", nil); status(err) != http.StatusNotFound {
		t.Errorf("deleted again: got %v, want not found", err)
	}
	f.send(t, "new", message("x"))
	var names []string
	for pager := c.NewListQueuesPager(&admin.ListQueuesOptions{MaxPageSize: 2}); pager.More(); {
		page, err := pager.NextPage(f.ctx)
		must(t, err)
		for _, q := range page.Queues {
			names = append(names, q.QueueName)
		}
	}
	if got, want := fmt.Sprint(names), "[New plain short shortwork work]"; got != want {
		t.Errorf("list: got %s, want %s", got, want)
	}
}

func TestDeletedUnderItsReceivers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	create(t, c, "brief", admin.QueueProperties{})
	r := f.receiver(t, "brief", nil)
	_, err := r.PeekMessages(f.ctx, 1, nil)
	must(t, err)
	got := make(chan error, 1)
	go func() {
		for {
			if _, err := r.ReceiveMessages(f.ctx, 1, nil); err != nil {
				got <- err
				return
			}
		}
	}()
	_, err = c.DeleteQueue(f.ctx, "brief", nil)
	must(t, err)
	if err := <-got; condition(err) != "amqp:not-found" {
		t.Errorf("the receiver: got %v, want not found", err)
	}
}

func TestWithoutManage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("send"))
	for _, name := range []string{"nowhere", "not there"} {
		if q, err := c.GetQueue(f.ctx, "nowhere", nil); q != nil || err != nil {
			t.Errorf("%s: got %+v, %v, want neither a queue nor an error", name, q, err)
		}
	}
	_, get := c.GetQueue(f.ctx, "plain", nil)
	_, made := c.CreateQueue(f.ctx, "x", nil)
	_, changed := c.UpdateQueue(f.ctx, "plain", admin.QueueProperties{}, nil)
	_, deleted := c.DeleteQueue(f.ctx, "plain", nil)
	for want, err := range map[string]error{"Manage,EntityRead": get, "Manage,EntityWrite": made, "Manage,EntityWrite.": changed, "Manage,EntityDelete": deleted} {
		if status(err) != http.StatusUnauthorized || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDescriptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	for name, p := range map[string]admin.QueueProperties{
		"a lock of six minutes":          {LockDuration: to.Ptr("PT6M")},
		"no time at all":                 {DefaultMessageTimeToLive: to.Ptr("soon")},
		"a window of ten seconds":        {DuplicateDetectionHistoryTimeWindow: to.Ptr("PT10S")},
		"no deliveries":                  {MaxDeliveryCount: to.Ptr(int32(0))},
		"a size between two":             {MaxSizeInMegabytes: to.Ptr(int32(1500))},
		"messages of a Premium one":      {MaxMessageSizeInKilobytes: to.Ptr(int64(102400))},
		"forwarding to nowhere":          {ForwardTo: to.Ptr("nowhere")},
		"forwarding out of sessions":     {ForwardTo: to.Ptr("plain"), RequiresSession: to.Ptr(true)},
		"a status that it cannot be set": {Status: to.Ptr(admin.EntityStatus("Deleting"))},
		"idle for a minute":              {AutoDeleteOnIdle: to.Ptr("PT1M")},
	} {
		if _, err := c.CreateQueue(f.ctx, "odd", &admin.CreateQueueOptions{Properties: &p}); status(err) != http.StatusBadRequest {
			t.Errorf("%s: got %v, want 400", name, err)
		}
	}
	for _, name := range []string{"$x", "a%3Fb", strings.Repeat("n", 261)} {
		if _, err := c.CreateQueue(f.ctx, name, nil); status(err) < 400 {
			t.Errorf("the name %s was taken", name)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	create(t, c, "q", admin.QueueProperties{})
	f.send(t, "q", message("before"))
	set := func(s admin.EntityStatus) {
		_, err := c.UpdateQueue(f.ctx, "q", admin.QueueProperties{Status: &s}, nil)
		must(t, err)
	}
	send := func() error {
		s := f.sender(t, "q")
		defer s.Close(f.ctx)
		return s.SendMessage(f.ctx, message("x"), nil)
	}
	receive := func() error {
		r := f.receiver(t, "q", nil)
		defer r.Close(f.ctx)
		_, err := r.ReceiveMessages(f.ctx, 1, nil)
		return err
	}
	for state, want := range map[admin.EntityStatus][2]bool{
		admin.EntityStatusDisabled: {}, admin.EntityStatusSendDisabled: {false, true}, admin.EntityStatusReceiveDisabled: {true, false},
		admin.EntityStatusActive: {true, true},
	} {
		set(state)
		for i, err := range []error{send(), receive()} {
			if (err == nil) != want[i] || err != nil && !strings.Contains(err.Error(), "com.microsoft:entity-disabled") {
				t.Errorf("%s: sending or receiving (%d): got %v", state, i, err)
			}
		}
	}
}

func TestKeysOfAQueue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	create(
		t,
		c,
		"q",
		admin.QueueProperties{
			AuthorizationRules: []admin.AuthorizationRule{{KeyName: to.Ptr("own"), PrimaryKey: to.Ptr("b25l"), SecondaryKey: to.Ptr("dHdv"),
				AccessRights: []admin.AccessRight{admin.AccessRightSend}}},
		},
	)
	for _, key := range []string{"b25l", "dHdv"} {
		own, err := azservicebus.NewClientFromConnectionString(
			fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=own;SharedAccessKey=%s;UseDevelopmentEmulator=true", f.Addr(), key),
			nil,
		)
		must(t, err)
		g := fixture{f.Server, own, f.ctx}
		g.send(t, "q", message("x"))
		var sbErr *azservicebus.Error
		if _, err := g.receiver(t, "q", nil).ReceiveMessages(f.ctx, 1, nil); !errors.As(err, &sbErr) ||
			sbErr.Code != azservicebus.CodeUnauthorizedAccess {
			t.Errorf("receive with a right to send: got %v", err)
		}
		if err := g.sender(t, "plain").SendMessage(f.ctx, message("x"), nil); !errors.As(err, &sbErr) ||
			sbErr.Code != azservicebus.CodeUnauthorizedAccess {
			t.Errorf("send to another queue: got %v", err)
		}
		own.Close(f.ctx)
	}
}

func TestForwarding(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	create(t, c, "h6", admin.QueueProperties{})
	for i := 5; i >= 1; i-- {
		create(t, c, fmt.Sprint("h", i), admin.QueueProperties{ForwardTo: to.Ptr(fmt.Sprint("sb://any/h", i+1))})
	}
	f.send(t, "h2", message("four hops"))
	m := f.one(t, f.receiver(t, "h6", nil))
	if string(m.Body) != "four hops" || len(m.RawAMQPMessage.MessageAnnotations) != 4 { // with the number it had at first, and no others
		t.Errorf("got %q with annotations %v", m.Body, m.RawAMQPMessage.MessageAnnotations)
	}
	f.send(t, "h1", message("five hops"))
	dead := f.one(t, f.receiver(t, "h5", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}))
	if *dead.DeadLetterReason != "MaxTransferHopCountExceeded" {
		t.Errorf("five hops: got %q", *dead.DeadLetterReason)
	}
}

func TestForwardingDeadLetters(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := administration(t, f.ConnectionString("root"))
	create(t, c, "cemetery", admin.QueueProperties{})
	create(t, c, "q", admin.QueueProperties{ForwardDeadLetteredMessagesTo: to.Ptr("cemetery")})
	f.send(t, "q", message("x"))
	r := f.receiver(t, "q", nil)
	must(t, r.DeadLetterMessage(f.ctx, f.one(t, r), &azservicebus.DeadLetterOptions{Reason: to.Ptr("bad")}))
	m := f.one(t, f.receiver(t, "cemetery", nil))
	if *m.DeadLetterReason != "bad" || *m.DeadLetterSource != "q" {
		t.Errorf("got reason %q and source %q", *m.DeadLetterReason, *m.DeadLetterSource)
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	f := setup(t)
	create(t, administration(t, f.ConnectionString("root")), "once", admin.QueueProperties{RequiresDuplicateDetection: to.Ptr(true)})
	one := func(id string) *azservicebus.Message { return &azservicebus.Message{MessageID: &id} }
	f.send(t, "once", one("a"), one("a"), one("b"))
	if active, _, _, _ := f.Counts("once"); active != 2 {
		t.Errorf("got %d messages, want 2", active)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	lender := httptest.NewUnstartedServer(nil) // of a certificate for example.com
	lender.StartTLS()
	defer lender.Close()
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	s, err := servicebus.Start(
		servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), Queues: queues, AccessKeys: rules, Premium: true,
			TLS: &tls.Config{Certificates: lender.TLS.Certificates}},
	)
	must(t, err)
	defer s.Close()
	config := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), &azservicebus.ClientOptions{TLSConfig: config})
	must(t, err)
	defer client.Close(t.Context())
	f := fixture{s, client, t.Context()}
	c, err := admin.NewClientFromConnectionString(s.ConnectionString("root"), &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}}})
	must(t, err)
	create(t, c, "large", admin.QueueProperties{MaxMessageSizeInKilobytes: to.Ptr(int64(4096))})
	sender := f.sender(t, "large")
	must(t, sender.SendMessage(t.Context(), message(strings.Repeat("x", 3<<20)), nil))
	if m := f.one(t, f.receiver(t, "large", nil)); len(m.Body) != 3<<20 {
		t.Errorf("got %d bytes", len(m.Body))
	}
	batch, err := sender.NewMessageBatch(t.Context(), nil)
	must(t, err)
	if err := batch.AddMessage(message(strings.Repeat("x", 3<<20)), nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("3 MB in a batch: got %v, want %v", err, azservicebus.ErrMessageTooLarge)
	}
	// Who does not speak TLS gets nothing.
	raw, err := net.Dial("tcp", s.Addr())
	must(t, err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(raw, "GET / HTTP/1.1\r\n\r\n")
	if b := make([]byte, 100); true {
		if n, _ := raw.Read(b); strings.Contains(string(b[:n]), "HTTP") && !strings.Contains(string(b[:n]), "400") {
			t.Errorf("plain HTTP on the TLS port: got %q", b[:n])
		}
	}
}
