package invoke

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Invocation is what the host knows of a call it is about to make. Its methods
// build the call's body.
type Invocation struct {
	Function  string    // name of its folder
	Binding   string    // name of the trigger in function.json
	ID        string    // of the invocation
	At        time.Time // now
	Namespace string    // of Service Bus, for its triggers
}

// Delivery is a message with what only the host knows of it. Empty texts are
// null.
type Delivery struct {
	Message
	LockToken        string
	LockedUntil      time.Time // of the lock
	ExpiresAt        time.Time // of the message; zero = it never does
	PartitionKey     string
	DeadLetterSource string
}

// Forms of times. A DateTime has no zone, a DateTimeOffset has; sub-seconds
// survive in lists and in a timer's status only.
const (
	formTime        = "2006-01-02T15:04:05"
	formOffset      = "2006-01-02T15:04:05-07:00"
	formTimeList    = "2006-01-02T15:04:05.9999999"
	formOffsetExact = "2006-01-02T15:04:05.9999999-07:00"
	formNow         = "2006-01-02T15:04:05.999999Z"
)

// byHand is the sequence number of a message that somebody has made up at the
// host's own door, and noLock its lock token.
const (
	byHand = -1
	noLock = "00000000-0000-0000-0000-000000000000"
)

// The two orders of bytes in a text of UTF-16.
var littleEndian, bigEndian = binary.LittleEndian, binary.BigEndian

// latest is when a message expires that never does: .NET's last moment.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC)

// expires is when a message expires; the zero time says never.
func (d *Delivery) expires() time.Time {
	if d.ExpiresAt.IsZero() {
		return latest
	}
	return d.ExpiresAt.UTC()
}

// call is the body of an invocation.
type call struct {
	Data     map[string]json.RawMessage
	Metadata map[string]json.RawMessage
}

// object is a value as it is: objects and times.
func object(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null") // a property that JSON has no form for
	}
	return b
}

// text is the host's form of every other value: a string that holds JSON text.
func text(v any) json.RawMessage { return object(string(object(v))) }

func (inv Invocation) encode(data json.RawMessage, metadata map[string]json.RawMessage) []byte {
	metadata["sys"] = inv.sys()
	return object(call{map[string]json.RawMessage{inv.Binding: data}, metadata})
}

// sys is metadata that every invocation has.
func (inv Invocation) sys() json.RawMessage {
	return object(map[string]string{"MethodName": inv.Function, "UtcNow": inv.At.UTC().Format(formNow), "RandGuid": inv.ID})
}

// husks is metadata that every Service Bus invocation has. Nothing can be
// settled through it.
func (inv Invocation) husks() map[string]json.RawMessage {
	m := map[string]json.RawMessage{
		"Client": object(
			map[string]any{"FullyQualifiedNamespace": inv.Namespace, "IsClosed": false, "TransportType": 0, "Identifier": inv.Namespace},
		),
	}
	for _, name := range []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"} {
		m[name] = json.RawMessage("{}")
	}
	return m
}

// bodyOf is a body in a list: base64, or its text. A mark at the beginning says
// that a text is in UTF-16; what is no UTF-8 is replaced.
func bodyOf(b []byte, binary bool) string {
	if binary {
		return base64.StdEncoding.EncodeToString(b)
	}
	for mark, order := range map[string]interface{ Uint16([]byte) uint16 }{"\xff\xfe": littleEndian, "\xfe\xff": bigEndian} {
		if rest, ok := bytes.CutPrefix(b, []byte(mark)); ok {
			units := make([]uint16, len(rest)/2)
			for i := range units {
				units[i] = order.Uint16(rest[2*i:])
			}
			return string(utf16.Decode(units))
		}
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return strings.ToValidUTF8(string(b), string(utf8.RuneError))
}

// ByHand is the body when somebody invokes a serviceBusTrigger through the host's
// own door: a list of one for cardinality many, and beside it, in either case, the
// metadata of a single message that has next to nothing.
func (inv Invocation) ByHand(input string, many, binary bool) []byte {
	m := inv.husks()
	m["LockToken"], m["DeliveryCount"], m["SequenceNumber"] = text(noLock), text(0), text(byHand)
	m["EnqueuedTimeUtc"], m["EnqueuedTime"] = object(time.Time{}.Format(formTime)), object(time.Time{}.Format(formOffset))
	m["ExpiresAtUtc"], m["ExpiresAt"] = object(latest.Format(formTime)), object(latest.Format(formOffset))
	m["ApplicationProperties"], m["UserProperties"] = object(struct{}{}), object(struct{}{})
	body := bodyOf([]byte(input), binary)
	switch {
	case many:
		return inv.encode(text([]string{body}), m)
	case binary:
		return inv.encode(object(body), m)
	}
	spill(m, []byte(input))
	return inv.encode(text(body), m)
}

func properties(d *Delivery) map[string]any {
	if d.Properties == nil {
		return map[string]any{}
	}
	return d.Properties
}

// Single is the body for a serviceBusTrigger with cardinality one. Without
// binary the body is a string in a string, and the top-level fields of one that
// is a JSON object shadow the metadata, as they do in the cloud.
func (inv Invocation) Single(d Delivery, binary bool) []byte {
	m := inv.husks()
	m["MessageId"], m["LockToken"] = text(d.ID), text(d.LockToken)
	m["DeliveryCount"], m["SequenceNumber"] = text(d.DeliveryCount), text(d.SequenceNumber)
	m["EnqueuedTimeUtc"], m["EnqueuedTime"] = object(d.EnqueuedAt.UTC().Format(formTime)), object(d.EnqueuedAt.UTC().Format(formOffset))
	m["ExpiresAtUtc"], m["ExpiresAt"] = object(d.expires().Format(formTime)), object(d.expires().Format(formOffset))
	m["ApplicationProperties"] = object(properties(&d))
	m["UserProperties"] = m["ApplicationProperties"]
	for name, s := range map[string]string{
		"ContentType":      d.ContentType,
		"Subject":          d.Subject,
		"Label":            d.Subject,
		"CorrelationId":    d.CorrelationID,
		"SessionId":        d.SessionID,
		"ReplyToSessionId": d.ReplyToSessionID,
		"To":               d.To,
		"ReplyTo":          d.ReplyTo,
		"PartitionKey":     d.PartitionKey,
		"DeadLetterSource": d.DeadLetterSource,
	} {
		if s != "" {
			m[name] = text(s)
		}
	}
	body := bodyOf(d.Body, binary)
	if binary {
		return inv.encode(object(body), m)
	}
	spill(m, []byte(body))
	return inv.encode(text(body), m)
}

// spill copies the top-level fields of a JSON body into the metadata, lists
// left out and plain values made strings.
func spill(metadata map[string]json.RawMessage, body []byte) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return
	}
	for name, raw := range fields {
		switch raw[0] {
		case '[', 'n':
		case '{':
			metadata[name] = raw
		case '"':
			metadata[name] = object(string(raw))
		case 't':
			metadata[name] = text("True")
		case 'f':
			metadata[name] = text("False")
		default:
			metadata[name] = text(string(raw))
		}
	}
}

// Tick is the body for a timerTrigger. Without status (both times zero) the
// timer is one that keeps none.
func (inv Invocation) Tick(t Tick) []byte {
	var status any
	if !t.Last.IsZero() || !t.Next.IsZero() {
		last, next := t.Last.UTC().Format(formOffsetExact), t.Next.UTC().Format(formOffsetExact)
		status = map[string]string{"Last": last, "Next": next, "LastUpdated": last}
	}
	return inv.encode(
		object(map[string]any{"Schedule": map[string]bool{"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": t.PastDue}),
		map[string]json.RawMessage{},
	)
}

// Request is the body for an httpTrigger whose requests are not passed on as
// they are. The request's own body is there only if its length was announced.
func (inv Invocation) Request(r *http.Request, params map[string]string, body []byte) []byte {
	query, flat := map[string]string{}, map[string]string{}
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	for name, values := range r.Header {
		flat[name] = strings.Join(values, ",")
	}
	if params == nil {
		params = map[string]string{}
	}
	req := map[string]any{
		"Url":        "http://" + r.Host + r.URL.RequestURI(),
		"Method":     r.Method,
		"Query":      query,
		"Headers":    r.Header,
		"Params":     params,
		"Identities": []any{map[string]any{"AuthenticationType": nil, "IsAuthenticated": false, "Claims": []any{}}},
	}
	if r.ContentLength > 0 {
		req["Body"] = string(body)
		if kind := strings.ToLower(r.Header.Get("Content-Type")); strings.HasPrefix(kind, "application/octet-stream") ||
			strings.HasPrefix(kind, "multipart/") {
			req["Body"] = base64.StdEncoding.EncodeToString(body)
		}
	}
	return inv.encode(object(req), map[string]json.RawMessage{"Query": object(query), "Headers": object(flat)})
}
