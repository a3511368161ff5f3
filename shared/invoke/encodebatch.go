package invoke

import (
	"encoding/base64"
	"strconv"
	"time"
)

// Batch is the body for a serviceBusTrigger with cardinality many: the bodies, as
// base64 (dataType binary) or as texts (string), in a list in a string, and beside
// it a list in a string for each fact of the messages. The names of the metadata are in
// order.
func (inv Invocation) Batch(deliveries []Delivery, binary bool) []byte {
	const perDelivery = 1 << 10 // of metadata, without a body; an estimate
	size := len(deliveries)*perDelivery + 2*perDelivery
	for i := range deliveries {
		size += len(deliveries[i].Body) * 3 / 2
	}
	w := batchWriter{deliveries: deliveries, out: make([]byte, 0, size)}
	w.out = append(w.out, `{"Data":{`...)
	w.list(inv.Binding, func(b []byte, d *Delivery) []byte { return appendBody(b, d.Body, binary) })
	w.out = append(w.out, `},"Metadata":{`...)
	w.separate = false
	inv.appendMetadata(&w)
	return append(w.out, "}}"...)
}

func (inv Invocation) appendMetadata(w *batchWriter) {
	empty := []byte("{}") // nothing can be settled through it, see husks
	w.list("ApplicationPropertiesArray", appendProperties)
	w.value("Client", inv.husks()["Client"])
	w.optional("ContentTypeArray", func(d *Delivery) string { return d.ContentType })
	w.optional("CorrelationIdArray", func(d *Delivery) string { return d.CorrelationID })
	w.optional("DeadLetterSourceArray", func(d *Delivery) string { return d.DeadLetterSource })
	w.list("DeliveryCountArray", func(b []byte, d *Delivery) []byte { return strconv.AppendInt(b, int64(d.DeliveryCount), 10) })
	w.times("EnqueuedTimeArray", formOffsetExact, func(d *Delivery) time.Time { return d.EnqueuedAt.UTC() })
	w.times("EnqueuedTimeUtcArray", formTimeList, func(d *Delivery) time.Time { return d.EnqueuedAt.UTC() })
	w.times("ExpiresAtArray", formOffsetExact, (*Delivery).expires)
	w.times("ExpiresAtUtcArray", formTimeList, (*Delivery).expires)
	w.optional("LabelArray", func(d *Delivery) string { return d.Subject })
	w.list("LockTokenArray", func(b []byte, d *Delivery) []byte { return appendQuoted(b, d.LockToken) })
	w.value("MessageActions", empty)
	w.list("MessageIdArray", func(b []byte, d *Delivery) []byte { return appendQuoted(b, d.ID) })
	w.value("MessageReceiver", empty)
	w.value("MessageSession", empty)
	w.optional("PartitionKeyArray", func(d *Delivery) string { return d.PartitionKey })
	w.value("ReceiveActions", empty)
	w.optional("ReplyToArray", func(d *Delivery) string { return d.ReplyTo })
	w.optional("ReplyToSessionIdArray", func(d *Delivery) string { return d.ReplyToSessionID })
	w.list("SequenceNumberArray", func(b []byte, d *Delivery) []byte { return strconv.AppendInt(b, d.SequenceNumber, 10) })
	w.value("SessionActions", empty)
	w.optional("SessionIdArray", func(d *Delivery) string { return d.SessionID })
	w.optional("SubjectArray", func(d *Delivery) string { return d.Subject })
	w.optional("ToArray", func(d *Delivery) string { return d.To })
	// The host repeats the partition key here.
	w.optional("TransactionPartitionKeyArray", func(d *Delivery) string { return d.PartitionKey })
	w.list("UserPropertiesArray", appendProperties)
	w.value("sys", inv.sys())
}

// batchWriter writes lists of facts of messages: each is one pass over the messages, and
// needs no memory of its own but for what JSON has to escape.
type batchWriter struct {
	deliveries []Delivery
	out        []byte
	scratch    []byte // the list that is written, before it becomes a string
	separate   bool   // a field was written before
}

// field begins a field.
func (w *batchWriter) field(name string) {
	if w.separate {
		w.out = append(w.out, ',')
	}
	w.separate = true
	w.out = append(appendQuoted(w.out, name), ':')
}

// value writes a field whose value is JSON as it is.
func (w *batchWriter) value(name string, raw []byte) {
	w.field(name)
	w.out = append(w.out, raw...)
}

// list writes a list in a string, with what appendOne appends for each message.
func (w *batchWriter) list(name string, appendOne func([]byte, *Delivery) []byte) {
	w.scratch = append(w.scratch[:0], '[')
	for i := range w.deliveries {
		if i > 0 {
			w.scratch = append(w.scratch, ',')
		}
		w.scratch = appendOne(w.scratch, &w.deliveries[i])
	}
	w.field(name)
	w.out = appendQuoted(w.out, append(w.scratch, ']'))
}

// optional writes a list of texts, in which empty ones are null.
func (w *batchWriter) optional(name string, of func(*Delivery) string) {
	w.list(name, func(b []byte, d *Delivery) []byte {
		if s := of(d); s != "" {
			return appendQuoted(b, s)
		}
		return append(b, "null"...)
	})
}

// times writes a list of times.
func (w *batchWriter) times(name, form string, of func(*Delivery) time.Time) {
	w.list(name, func(b []byte, d *Delivery) []byte {
		return append(of(d).AppendFormat(append(b, '"'), form), '"')
	})
}

// appendBody appends a body in a list, see bodyOf.
func appendBody(b, body []byte, binary bool) []byte {
	if binary {
		return append(base64.StdEncoding.AppendEncode(append(b, '"'), body), '"')
	}
	return appendQuoted(b, bodyOf(body, false))
}

func appendProperties(b []byte, d *Delivery) []byte {
	if len(d.Properties) == 0 {
		return append(b, "{}"...)
	}
	return append(b, object(d.Properties)...)
}

// appendQuoted appends a text as a JSON string, as encoding/json writes it.
func appendQuoted[text string | []byte](b []byte, s text) []byte {
	begin, from := len(b), 0
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(append(b, s[from:i]...), '\\', c)
			from = i + 1
		case c < 0x20 || c >= 0x7f || c == '<' || c == '>' || c == '&': // seldom
			return append(b[:begin], object(string(s))...)
		}
	}
	return append(append(b, s[from:]...), '"')
}
