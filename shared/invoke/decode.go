package invoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxWraps is how many strings around a value are taken off. The host puts one
// or two, depending on the value's type and the mode.
const maxWraps = 3

// envelope is the body of an invocation: values under the names of bindings,
// and what of the metadata is read here.
type envelope struct {
	Data     map[string]json.RawMessage
	Metadata struct {
		MessageID             json.RawMessage `json:"MessageId"`
		ContentType           json.RawMessage
		Subject               json.RawMessage
		To                    json.RawMessage
		ReplyTo               json.RawMessage
		ReplyToSessionID      json.RawMessage `json:"ReplyToSessionId"`
		CorrelationID         json.RawMessage `json:"CorrelationId"`
		SessionID             json.RawMessage `json:"SessionId"`
		SequenceNumber        json.RawMessage
		DeliveryCount         json.RawMessage
		EnqueuedTimeUtc       json.RawMessage
		ApplicationProperties json.RawMessage

		MessageIDArray             json.RawMessage `json:"MessageIdArray"`
		ContentTypeArray           json.RawMessage
		SubjectArray               json.RawMessage
		ToArray                    json.RawMessage
		ReplyToArray               json.RawMessage
		ReplyToSessionIDArray      json.RawMessage `json:"ReplyToSessionIdArray"`
		CorrelationIDArray         json.RawMessage `json:"CorrelationIdArray"`
		SessionIDArray             json.RawMessage `json:"SessionIdArray"`
		SequenceNumberArray        json.RawMessage
		DeliveryCountArray         json.RawMessage
		EnqueuedTimeUtcArray       json.RawMessage
		ApplicationPropertiesArray json.RawMessage
	}
}

// read returns the payload and the only value in its data.
func read(payload []byte) (*envelope, json.RawMessage, error) {
	var e envelope
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, nil, fmt.Errorf("the invocation is not the JSON that the host sends: %w", err)
	}
	if len(e.Data) != 1 {
		return nil, nil, fmt.Errorf("the invocation has %d inputs; function.json must have the trigger as its only input", len(e.Data))
	}
	for _, value := range e.Data {
		return &e, value, nil
	}
	return nil, nil, nil
}

// message reads what the metadata of a single message says.
func (e *envelope) message() (Message, error) {
	in := &e.Metadata
	m := Message{ID: textOf(in.MessageID), ContentType: textOf(in.ContentType), Subject: textOf(in.Subject),
		To: textOf(in.To), ReplyTo: textOf(in.ReplyTo), ReplyToSessionID: textOf(in.ReplyToSessionID),
		CorrelationID: textOf(in.CorrelationID), SessionID: textOf(in.SessionID), EnqueuedAt: timeOf(textOf(in.EnqueuedTimeUtc))}
	var err error
	if m.SequenceNumber, err = numberOf(in.SequenceNumber); err != nil {
		return m, fmt.Errorf("SequenceNumber: %w", err)
	}
	count, err := numberOf(in.DeliveryCount)
	if err != nil {
		return m, fmt.Errorf("DeliveryCount: %w", err)
	}
	m.DeliveryCount = int(count)
	if m.Properties, err = propertiesOf(in.ApplicationProperties); err != nil {
		return m, fmt.Errorf("ApplicationProperties: %w", err)
	}
	return m, nil
}

// fill reads the facts of a batch. They come in lists beside the bodies; a list of
// another length is an error, since nothing would belong together.
func (e *envelope) fill(out []Message) error {
	in := &e.Metadata
	texts := func(into *string, raw json.RawMessage) error { *into = textOf(raw); return nil }
	for _, list := range []struct {
		name string
		raw  json.RawMessage
		set  func(m *Message, raw json.RawMessage) error
	}{
		{"MessageId", in.MessageIDArray, func(m *Message, raw json.RawMessage) error { return texts(&m.ID, raw) }},
		{"ContentType", in.ContentTypeArray, func(m *Message, raw json.RawMessage) error { return texts(&m.ContentType, raw) }},
		{"To", in.ToArray, func(m *Message, raw json.RawMessage) error { return texts(&m.To, raw) }},
		{"ReplyTo", in.ReplyToArray, func(m *Message, raw json.RawMessage) error { return texts(&m.ReplyTo, raw) }},
		{"ReplyToSessionId", in.ReplyToSessionIDArray, func(m *Message, raw json.RawMessage) error { return texts(&m.ReplyToSessionID, raw) }},
		{"Subject", in.SubjectArray, func(m *Message, raw json.RawMessage) error { return texts(&m.Subject, raw) }},
		{"CorrelationId", in.CorrelationIDArray, func(m *Message, raw json.RawMessage) error { return texts(&m.CorrelationID, raw) }},
		{"SessionId", in.SessionIDArray, func(m *Message, raw json.RawMessage) error { return texts(&m.SessionID, raw) }},
		{"EnqueuedTimeUtc", in.EnqueuedTimeUtcArray, func(m *Message, raw json.RawMessage) error {
			m.EnqueuedAt = timeOf(textOf(raw))
			return nil
		}},
		{"SequenceNumber", in.SequenceNumberArray, func(m *Message, raw json.RawMessage) (err error) {
			m.SequenceNumber, err = numberOf(raw)
			return err
		}},
		{"DeliveryCount", in.DeliveryCountArray, func(m *Message, raw json.RawMessage) error {
			n, err := numberOf(raw)
			m.DeliveryCount = int(n)
			return err
		}},
		{"ApplicationProperties", in.ApplicationPropertiesArray, func(m *Message, raw json.RawMessage) (err error) {
			m.Properties, err = propertiesOf(raw)
			return err
		}},
	} {
		if list.raw == nil {
			continue
		}
		var values []json.RawMessage
		if err := json.Unmarshal(unwrap(list.raw), &values); err != nil {
			return fmt.Errorf("%sArray is not a list: %w", list.name, err)
		}
		if values != nil && len(values) != len(out) {
			return fmt.Errorf("%d messages came with %d values of %sArray", len(out), len(values), list.name)
		}
		for i, raw := range values {
			if err := list.set(&out[i], raw); err != nil {
				return fmt.Errorf("%sArray, message %d: %w", list.name, i, err)
			}
		}
	}
	return nil
}

// decodeTick reads the payload of a timerTrigger.
func decodeTick(payload []byte) (Tick, error) {
	_, value, err := read(payload)
	if err != nil {
		return Tick{}, err
	}
	var t struct {
		IsPastDue      bool
		ScheduleStatus *struct{ Last, Next string } // times, with a zone or without
	}
	if err := json.Unmarshal(unwrap(value), &t); err != nil {
		return Tick{}, fmt.Errorf("the timer's state cannot be read: %w", err)
	}
	tick := Tick{PastDue: t.IsPastDue}
	if t.ScheduleStatus != nil {
		tick.Last, tick.Next = timeOf(t.ScheduleStatus.Last), timeOf(t.ScheduleStatus.Next)
	}
	return tick, nil
}

// unwrap is the JSON text inside a value that the host may have put into
// strings. A string that holds no JSON stays what it is.
func unwrap(raw json.RawMessage) json.RawMessage {
	for range maxWraps {
		if len(raw) == 0 || raw[0] != '"' {
			return raw
		}
		s, ok := unquote(raw)
		if !ok {
			return raw
		}
		inner := strings.TrimSpace(s)
		if inner == "" || !strings.ContainsRune(`{["0123456789-tfn`, rune(inner[0])) {
			return raw
		}
		raw = json.RawMessage(inner)
	}
	return raw
}

// unquote is the string that a value stands for;
// false if it is no string. In a batch nearly all strings are plain ASCII or
// escape nothing but quotes, and reading those here halves the time.
func unquote(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c == '\\' && i+1 < len(inner) && (inner[i+1] == '"' || inner[i+1] == '\\') {
			i++
			c = inner[i]
		} else if c == '\\' || c == '"' || c < ' ' || c >= utf8.RuneSelf {
			var s string
			err := json.Unmarshal(raw, &s)
			return s, err == nil
		}
		out = append(out, c)
	}
	return string(out), true
}

// textOf reads a text: null, a string, or a string that holds a JSON string.
func textOf(raw json.RawMessage) string {
	s, ok := unquote(raw)
	if !ok {
		return ""
	}
	var inner string
	if strings.HasPrefix(s, `"`) && json.Unmarshal([]byte(s), &inner) == nil {
		return inner
	}
	return s
}

// numberOf reads a whole number, in strings or not; none is 0.
func numberOf(raw json.RawMessage) (int64, error) {
	text := string(unwrap(raw))
	if text == "" || text == "null" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errors.New("it is not a whole number")
	}
	return n, nil
}

// propertiesOf reads a message's application properties. Whole numbers stay
// whole, so that a message sent again has the properties it came with.
func propertiesOf(raw json.RawMessage) (map[string]any, error) {
	if raw = unwrap(raw); len(raw) == 0 {
		return nil, nil
	}
	if string(raw) == "{}" {
		return map[string]any{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var props map[string]any
	if err := d.Decode(&props); err != nil {
		return nil, fmt.Errorf("it is not an object: %w", err)
	}
	for k, v := range props {
		if n, ok := v.(json.Number); ok {
			props[k] = plain(n)
		}
	}
	return props, nil
}

func plain(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(string(n), 10, 64); err == nil {
		return u
	}
	f, _ := n.Float64()
	return f
}

// timeOf reads the host's times: RFC 3339, or the same without a zone, which is
// UTC. time.Parse also reads fractions of a second. What cannot be read, and .NET's zero, is
// the zero time.
func timeOf(s string) time.Time {
	for _, form := range []string{"2006-01-02T15:04:05", time.RFC3339, "2006-01-02 15:04:05"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
