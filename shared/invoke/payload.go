// Package invoke is the protocol between the Functions host and a custom
// handler, written down once: how the host encodes what woke a function, how a
// handler reads it, and what a reply means. Functions themselves are ordinary
// Go functions that know nothing of it.
package invoke

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Message is a Service Bus message as a function gets it.
type Message struct {
	Body           []byte
	ID             string
	ContentType    string
	Subject        string
	CorrelationID  string
	SessionID      string
	SequenceNumber int64
	DeliveryCount  int
	EnqueuedAt     time.Time // to the precision that the host passes on
	Properties     map[string]any
}

// Tick is an occurrence of a timer.
type Tick struct {
	PastDue    bool      // it comes late, for one or more that were missed
	Last, Next time.Time // zero when the timer keeps no status
}

// payload is the body of an invocation.
type payload struct {
	Data     map[string]json.RawMessage
	Metadata map[string]json.RawMessage
}

// text is the host's form of most values: a JSON string that holds JSON text.
func text(v any) json.RawMessage {
	inner, err := json.Marshal(v)
	if err != nil {
		inner = []byte("null")
	}
	outer, _ := json.Marshal(string(inner))
	return outer
}

func object(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// sys is the part of the metadata that is always there.
func sys(function, guid string, now time.Time) json.RawMessage {
	return object(map[string]string{"MethodName": function, "UtcNow": now.UTC().Format("2006-01-02T15:04:05.999999Z"), "RandGuid": guid})
}

// stamp is a time in an array, without and with its zone.
const (
	stamp     = "2006-01-02T15:04:05.999"
	stampZone = "2006-01-02T15:04:05.999-07:00"
)

// EncodeBatch is the payload of a serviceBusTrigger with cardinality many and
// dataType binary: bodies as base64 in an array in a string, and each fact of
// the messages as an array in a string under its name with "Array" behind.
func EncodeBatch(function, binding, guid string, now time.Time, messages []Message) []byte {
	n := len(messages)
	bodies, ids, types := make([]string, n), make([]string, n), make([]*string, n)
	subjects, correlations, sessions, nulls := make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
	counts, numbers := make([]int, n), make([]int64, n)
	utc, zoned, props := make([]string, n), make([]string, n), make([]map[string]any, n)
	for i, m := range messages {
		bodies[i], ids[i] = base64.StdEncoding.EncodeToString(m.Body), m.ID
		types[i], subjects[i], correlations[i], sessions[i] = orNull(m.ContentType), orNull(m.Subject), orNull(m.CorrelationID), orNull(m.SessionID)
		counts[i], numbers[i] = m.DeliveryCount, m.SequenceNumber
		utc[i], zoned[i] = m.EnqueuedAt.UTC().Format(stamp), m.EnqueuedAt.UTC().Format(stampZone)
		if props[i] = m.Properties; props[i] == nil {
			props[i] = map[string]any{}
		}
	}
	meta := map[string]json.RawMessage{
		"MessageIdArray": text(ids), "ContentTypeArray": text(types), "SubjectArray": text(subjects), "LabelArray": text(subjects),
		"CorrelationIdArray": text(correlations), "SessionIdArray": text(sessions), "ReplyToArray": text(nulls), "ToArray": text(nulls),
		"ReplyToSessionIdArray": text(nulls), "PartitionKeyArray": text(nulls), "TransactionPartitionKeyArray": text(nulls), "DeadLetterSourceArray": text(nulls),
		"DeliveryCountArray": text(counts), "SequenceNumberArray": text(numbers), "EnqueuedTimeUtcArray": text(utc), "EnqueuedTimeArray": text(zoned),
		"ApplicationPropertiesArray": text(props), "UserPropertiesArray": text(props),
		"MessageReceiver": object(struct{}{}), "MessageSession": object(struct{}{}), "MessageActions": object(struct{}{}),
		"SessionActions": object(struct{}{}), "ReceiveActions": object(struct{}{}), "Client": object(struct{}{}),
		"sys": sys(function, guid, now),
	}
	return encode(payload{map[string]json.RawMessage{binding: text(bodies)}, meta})
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func encode(p payload) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("invoke: a payload of our own cannot be encoded: %v", err))
	}
	return b
}

// EncodeTimer is the payload of a timerTrigger. A zero Last means that no
// status is kept.
func EncodeTimer(function, binding, guid string, now time.Time, t Tick) []byte {
	var status any
	if !t.Last.IsZero() || !t.Next.IsZero() {
		const form = "2006-01-02T15:04:05.9999999-07:00"
		status = map[string]string{"Last": t.Last.UTC().Format(form), "Next": t.Next.UTC().Format(form), "LastUpdated": t.Last.UTC().Format(form)}
	}
	data := map[string]any{"Schedule": map[string]bool{"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": t.PastDue}
	return encode(payload{map[string]json.RawMessage{binding: object(data)}, map[string]json.RawMessage{"sys": sys(function, guid, now)}})
}

// EncodeHTTP is the payload of an httpTrigger whose requests are not proxied.
// The body is left out when the request announced no length.
func EncodeHTTP(function, binding, guid string, now time.Time, r *http.Request, params map[string]string, body []byte) []byte {
	query, flat := map[string]string{}, map[string]string{}
	for k := range r.URL.Query() {
		query[k] = r.URL.Query().Get(k)
	}
	for k := range r.Header {
		flat[k] = r.Header.Get(k)
	}
	data := map[string]any{"Url": "http://" + r.Host + r.URL.RequestURI(), "Method": r.Method, "Query": query, "Headers": r.Header, "Params": params,
		"Identities": []any{map[string]any{"AuthenticationType": nil, "IsAuthenticated": false, "Claims": []any{}}}}
	if r.ContentLength > 0 {
		if t := r.Header.Get("Content-Type"); t == "application/octet-stream" || len(t) > 10 && t[:10] == "multipart/" {
			data["Body"] = base64.StdEncoding.EncodeToString(body)
		} else {
			data["Body"] = string(body)
		}
	}
	return encode(payload{map[string]json.RawMessage{binding: object(data)}, map[string]json.RawMessage{
		"Query": object(query), "Headers": object(flat), "sys": sys(function, guid, now)}})
}
