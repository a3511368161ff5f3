package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/link"
	"dsvmpools/shared/bus/tolerant/tolerantest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// rawSender sends encoded messages to the queue `jobs` as they are, by AMQP alone.
func rawSender(i *instance) func(sections ...[]byte) {
	i.t.Helper()
	a := link.ParseAddress(i.ServiceBus)
	c, err := (&net.Dialer{}).DialContext(i.ctx, "tcp", a.Host)
	if err != nil {
		i.t.Fatal(err)
	}
	conn, err := amqp.NewConn(i.ctx, tolerantest.Conn{Conn: c}, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(a.KeyName, a.Key), HostName: a.Host})
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { conn.Close() })
	session, err := conn.NewSession(i.ctx, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	sender, err := session.NewSender(i.ctx, "jobs", nil)
	if err != nil {
		i.t.Fatal(err)
	}
	return func(sections ...[]byte) {
		i.t.Helper()
		m := &amqp.Message{Data: [][]byte{tolerantest.Raw(bytes.Join(sections, nil))}}
		if err := sender.Send(i.ctx, m, nil); err != nil {
			i.t.Fatal(err)
		}
	}
}

// One message of each type of AMQP, in its properties, annotations and ids, and of each form
// of a body comes to the queue `jobs`, as jobs that run, as documents that are refused, and as
// jobs that come once more later. Each job runs, each refusal is on `rejected` with what its
// sender wrote, and both queues can be read by the SDKs.
func TestEveryTypeOfAMQP(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{
		"RECONCILE_SCHEDULE": "* * * * * *", "DSVM_REVIVE_AFTER": "1s,2s,4s,8s", "DSVM_UNKNOWN_POOL_AGAIN": "1h"})
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"min":1,"max":1},"idleTimeout":"1h"}`)
	send := rawSender(i)
	section, data := tolerantest.Section, func(document string) []byte {
		return tolerantest.Section(tolerantest.DataSection, tolerantest.Bytes([]byte(document)))
	}
	value := func(v []byte) []byte { return section(tolerantest.ValueSection, v) }
	ids := func(message, correlation []byte) []byte {
		null := tolerantest.Null
		return section(tolerantest.PropertiesSection, tolerantest.List(message, null, null, null, null, correlation))
	}
	text := tolerantest.Text
	good := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["sh","-c","echo ran >> $DSVM_SHARE/$DSVM_JOB_ID"]}`, id)
	}
	withoutID := strings.Replace(good(""), `"id":"",`, "", 1)
	var runs []string               // ids of jobs
	refused := map[string]refusal{} // by message id
	waits := map[string]refusal{}   // by message id
	accept := func(id string, sections ...[]byte) { runs = append(runs, id); send(sections...) }
	refuse := func(id string, want refusal, sections ...[]byte) { refused[id] = want; send(sections...) }

	for _, v := range tolerantest.Values() {
		property := section(tolerantest.ApplicationSection, tolerantest.Map(text("p"), v.Encoded))
		run, bad, later := "run-"+v.Name, "bad-"+v.Name, "later-"+v.Name
		accept(run, ids(text(run), tolerantest.Null), property, data(good(run)))
		refuse(bad, refusal{property: v.Arrives, hasProperty: true, body: `{"pool":"cpu"}`, reason: "command"},
			ids(text(bad), text("c")), property, data(`{"pool":"cpu"}`))
		waits[later] = refusal{property: v.Arrives}
		send(ids(text(later), text("c")), property, data(`{"pool":"later","command":["x"]}`))
		accept("annotated-"+v.Name, section(tolerantest.AnnotationsSection, tolerantest.Map(tolerantest.Symbol("x-opt-mine"), v.Encoded)),
			data(good("annotated-"+v.Name)), section(tolerantest.FooterSection, tolerantest.Map(tolerantest.Symbol("mine"), v.Encoded)))
	}

	uuid := []byte{0x98, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	const uuidText = "00010203-0405-0607-0809-0a0b0c0d0e0f"
	accept("42", ids([]byte{0x53, 42}, uuid), data(withoutID))
	accept(uuidText, ids(uuid, []byte{0x53, 42}), data(withoutID))
	accept("YWJj", ids(tolerantest.Bytes([]byte("abc")), tolerantest.Null), data(withoutID))
	refuse("43", refusal{correlation: uuidText, body: "{}"}, ids([]byte{0x53, 43}, uuid), data("{}"))
	refuse("00010203-0405-0607-0809-0a0b0c0d0e10", refusal{correlation: "42", body: "{}"},
		ids(append(uuid[:16:16], 16), []byte{0x53, 42}), data("{}"))
	refuse("ZGVm", refusal{correlation: "YWJj", body: "{}"}, ids(tolerantest.Bytes([]byte("def")), tolerantest.Bytes([]byte("abc"))), data("{}"))

	// Bodies. Those that no function can have die and take along what is beside them.
	mapOf := func(id string) []byte {
		return tolerantest.Map(text("id"), text(id), text("pool"), text("cpu"), text("command"),
			tolerantest.List(text("sh"), text("-c"), text("echo ran >> $DSVM_SHARE/$DSVM_JOB_ID")))
	}
	old := func(document string) string { // as .NET's DataContractSerializer writes it
		return "@\x06string\x08\x33http://schemas.microsoft.com/2003/10/Serialization/\x99" + string([]byte{byte(len(document))}) + document
	}
	parts := good("body-parts")
	accept("body-parts", data(parts[:20]), data(parts[20:]))
	accept("body-text", value(text(good("body-text"))))
	accept("body-old", data(old(good("body-old"))))
	accept("body-map", value(mapOf("body-map")))
	accept("body-binary", value(tolerantest.Bytes([]byte(good("body-binary")))))
	refuse("body-empty", refusal{reason: "empty"}, ids(text("body-empty"), tolerantest.Null), data(""))
	refuse("body-none", refusal{reason: "empty"}, ids(text("body-none"), tolerantest.Null))
	refuse("body-list", refusal{reason: "AMQP value of type list", body: "[\n  1\n]"},
		ids(text("body-list"), tolerantest.Null), value(tolerantest.List([]byte{0x54, 1})))
	refuse("body-sequence", refusal{reason: "AMQP sequence", body: "[\n  [\n    1\n  ]\n]"},
		ids(text("body-sequence"), tolerantest.Null), section(tolerantest.SequenceSection, tolerantest.List([]byte{0x54, 1})))
	refuse("body-decimal", refusal{reason: "AMQP value of type decimal", body: `"1.5"`},
		ids(text("body-decimal"), tolerantest.Null), value(append([]byte{0x94}, tolerantest.Decimal[:]...)))

	for _, id := range runs {
		if j := i.job(id); j.State != job.Succeeded {
			t.Errorf("job %s is %s: %s", id, j.State, j.Reason)
		}
		if ran, err := os.ReadFile(filepath.Join(i.Share, id)); err != nil || string(ran) != "ran\n" {
			t.Errorf("job %s ran as %q, %v", id, ran, err)
		}
	}
	i.until("the end of what died", func() bool {
		active, scheduled, locked, dead := i.Bus.Counts("jobs")
		waiting, _, _, _ := i.Bus.Counts("rejected")
		return active+locked+dead == 0 && scheduled == len(waits) && waiting == len(refused)
	})
	i.compare("rejected", refused)
	i.compare("jobs", waits)
	i.readByOthers(map[string]int{"rejected": len(refused), "jobs": len(waits)})
	i.emptyRejected(len(refused))
}

// emptyRejected has the API list the n messages on `rejected`, the newest of them become jobs,
// and the others deleted, from the last to the first, so that there are always some to pass.
func (i *instance) emptyRejected(n int) {
	i.t.Helper()
	all, err := i.client.Rejected(i.ctx, wire.RejectedFilter{}, 10*n)
	if err != nil || len(all) != n {
		i.t.Fatalf("%d of %d rejected messages are listed, %v", len(all), n, err)
	}
	slices.Reverse(all)
	for at, m := range all {
		if at >= 5 {
			err = i.client.DeleteRejected(i.ctx, m.Key)
		} else {
			id := fmt.Sprintf("mended-%d", at)
			_, err = i.client.Resubmit(i.ctx, m.Key, fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["true"]}`, id))
			if j := i.job(id); j.State != job.Succeeded {
				i.t.Errorf("job %s is %s: %s", id, j.State, j.Reason)
			}
		}
		if err != nil {
			i.t.Fatalf("message %s: %v", m.MessageID, err)
		}
	}
	if active, scheduled, locked, dead := i.Bus.Counts("rejected"); active+scheduled+locked+dead != 0 {
		i.t.Errorf("%d active, %d scheduled, %d locked and %d dead messages are left", active, scheduled, locked, dead)
	}
}

// refusal is what a message has on its queue.
type refusal struct {
	property    any // of the name p
	hasProperty bool
	correlation string
	body        string
	reason      string // part of it
}

// compare looks at a queue with the Go SDK as it is.
func (i *instance) compare(queue string, want map[string]refusal) {
	i.t.Helper()
	receiver, err := i.bus.NewReceiverForQueue(queue, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	defer receiver.Close(i.ctx)
	seen := map[string]bool{}
	for {
		got, err := receiver.PeekMessages(i.ctx, 50, nil)
		if err != nil {
			i.t.Fatalf("%s cannot be read: %v", queue, err)
		}
		if len(got) == 0 {
			break
		}
		for _, m := range got {
			w, expected := want[m.MessageID]
			if seen[m.MessageID] || !expected {
				i.t.Errorf("%s is on %s twice, or is not to be there", m.MessageID, queue)
			}
			seen[m.MessageID] = true
			i.checkRefusal(queue, m, w)
		}
	}
	for id := range want {
		if !seen[id] {
			i.t.Errorf("%s is not on %s", id, queue)
		}
	}
}

func (i *instance) checkRefusal(queue string, m *azservicebus.ReceivedMessage, want refusal) {
	i.t.Helper()
	reason, _ := m.ApplicationProperties["reason"].(string)
	p, has := m.ApplicationProperties["p"]
	// A decimal is a number for the host. One that died beside a body that no function can have,
	// which is a matter of how messages were batched, comes back as text.
	asText := strings.Contains(m.MessageID, "decimal") && p == fmt.Sprint(want.property)
	if (want.hasProperty && !has) || !reflect.DeepEqual(p, want.property) && !asText {
		i.t.Errorf("%s on %s: property is %T %v, want %T %v", m.MessageID, queue, p, p, want.property, want.property)
	}
	if want.body != "" && string(m.Body) != want.body || !strings.Contains(reason, want.reason) {
		i.t.Errorf("%s on %s: %q with reason %q", m.MessageID, queue, m.Body, reason)
	}
	if want.correlation != "" && (m.CorrelationID == nil || *m.CorrelationID != want.correlation) {
		i.t.Errorf("%s on %s: correlation id is %v, want %s", m.MessageID, queue, m.CorrelationID, want.correlation)
	}
}

// readByOthers has the SDKs of Python and JavaScript read queues, where the environment names
// them, and compares how many messages each finds.
func (i *instance) readByOthers(want map[string]int) {
	i.t.Helper()
	for _, reader := range []struct{ setting, program, script string }{
		{"DSVM_TEST_PYTHON", os.Getenv("DSVM_TEST_PYTHON"), "read.py"},
		{"DSVM_TEST_NODE", "node", "read.mjs"},
	} {
		if os.Getenv(reader.setting) == "" {
			i.t.Logf("%s is not set: %s does not read the queues", reader.setting, reader.script)
			continue
		}
		script, err := filepath.Abs(filepath.Join("..", "..", "local", "servicebus", "clients", reader.script))
		if err != nil {
			i.t.Fatal(err)
		}
		cmd := exec.CommandContext(i.ctx, reader.program, script, "rejected", "jobs")
		cmd.Env = append(os.Environ(), "BUS="+i.ServiceBus)
		if reader.setting == "DSVM_TEST_NODE" {
			cmd.Dir = os.Getenv(reader.setting)
		}
		out, err := cmd.Output()
		got := map[string]int{}
		if err = errors.Join(err, json.Unmarshal(out, &got)); err != nil || !reflect.DeepEqual(got, want) {
			i.t.Errorf("%s reads %s, %v, want %v", reader.script, out, err, want)
		}
	}
}
