package invoke

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// unwrap reads a value that the host may have put into a string as JSON text,
// once or twice, into v.
func unwrap(raw json.RawMessage, v any) error {
	for range 3 {
		if json.Unmarshal(raw, v) == nil {
			return nil
		}
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		raw = json.RawMessage(s)
	}
	return errors.New("a value is wrapped in too many strings")
}

// one is the only entry of an invocation's data.
func (p payload) one() (json.RawMessage, error) {
	if len(p.Data) != 1 {
		return nil, fmt.Errorf("the invocation has %d inputs, want 1", len(p.Data))
	}
	for _, raw := range p.Data {
		return raw, nil
	}
	return nil, nil
}

// decodeMessages reads the payload of a serviceBusTrigger with dataType binary,
// of either cardinality.
func decodeMessages(body []byte) ([]Message, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	raw, err := p.one()
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	if err := unwrap(raw, &bodies); err == nil && p.Metadata["MessageIdArray"] != nil {
		return p.batch(bodies)
	}
	m := Message{}
	var encoded string
	if err := json.Unmarshal(raw, &encoded); err != nil {
		return nil, fmt.Errorf("the message is not a text: %w", err)
	}
	if m.Body, err = base64.StdEncoding.DecodeString(encoded); err != nil {
		m.Body = []byte(encoded) // without dataType binary
	}
	p.single(&m)
	return []Message{m}, nil
}

// batch reads the facts of many messages. A fact that is missing stays empty; a
// list of another length is an error, since nothing would belong together.
func (p payload) batch(bodies [][]byte) ([]Message, error) {
	out := make([]Message, len(bodies))
	var ids, types, subjects, correlations, sessions, enqueued []*string
	var counts []int
	var numbers []int64
	var props []map[string]any
	for name, into := range map[string]any{"MessageId": &ids, "ContentType": &types, "Subject": &subjects, "CorrelationId": &correlations, "SessionId": &sessions,
		"EnqueuedTimeUtc": &enqueued, "DeliveryCount": &counts, "SequenceNumber": &numbers, "ApplicationProperties": &props} {
		raw := p.Metadata[name+"Array"]
		if raw == nil {
			continue
		}
		if err := unwrap(raw, into); err != nil {
			return nil, fmt.Errorf("%sArray cannot be read: %w", name, err)
		}
	}
	for name, n := range map[string]int{"MessageId": len(ids), "ContentType": len(types), "Subject": len(subjects), "CorrelationId": len(correlations),
		"SessionId": len(sessions), "EnqueuedTimeUtc": len(enqueued), "DeliveryCount": len(counts), "SequenceNumber": len(numbers), "ApplicationProperties": len(props)} {
		if n != 0 && n != len(bodies) {
			return nil, fmt.Errorf("%d messages came with %d values of %s", len(bodies), n, name)
		}
	}
	at := func(list []*string, i int) string {
		if i < len(list) && list[i] != nil {
			return *list[i]
		}
		return ""
	}
	for i := range out {
		m := &out[i]
		m.Body, m.ID, m.ContentType, m.Subject = bodies[i], at(ids, i), at(types, i), at(subjects, i)
		m.CorrelationID, m.SessionID, m.EnqueuedAt = at(correlations, i), at(sessions, i), parseTime(at(enqueued, i))
		if i < len(counts) {
			m.DeliveryCount = counts[i]
		}
		if i < len(numbers) {
			m.SequenceNumber = numbers[i]
		}
		if i < len(props) {
			m.Properties = props[i]
		}
	}
	return out, nil
}

// single reads the facts of one message.
func (p payload) single(m *Message) {
	for name, into := range map[string]any{"MessageId": &m.ID, "ContentType": &m.ContentType, "Subject": &m.Subject, "CorrelationId": &m.CorrelationID,
		"SessionId": &m.SessionID, "DeliveryCount": &m.DeliveryCount, "SequenceNumber": &m.SequenceNumber, "ApplicationProperties": &m.Properties} {
		raw := p.Metadata[name]
		if raw == nil {
			continue
		}
		if s, ok := into.(*string); ok {
			// A text is in a string as JSON text: take the inner one when there is one.
			if json.Unmarshal(raw, s) == nil {
				var inner string
				if json.Unmarshal([]byte(*s), &inner) == nil {
					*s = inner
				}
			}
			continue
		}
		_ = unwrap(raw, into)
	}
	var at string
	if raw := p.Metadata["EnqueuedTimeUtc"]; raw != nil && unwrap(raw, &at) == nil {
		m.EnqueuedAt = parseTime(at)
	}
}

// parseTime reads the host's times, which have no zone and mean UTC.
func parseTime(s string) time.Time {
	s = strings.Trim(s, `"`)
	for _, form := range []string{"2006-01-02T15:04:05.9999999", time.RFC3339Nano} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// decodeTick reads the payload of a timerTrigger.
func decodeTick(body []byte) (Tick, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return Tick{}, err
	}
	raw, err := p.one()
	if err != nil {
		return Tick{}, err
	}
	var t struct {
		IsPastDue      bool
		ScheduleStatus *struct{ Last, Next time.Time }
	}
	if err := unwrap(raw, &t); err != nil {
		return Tick{}, fmt.Errorf("the timer's state cannot be read: %w", err)
	}
	tick := Tick{PastDue: t.IsPastDue}
	if t.ScheduleStatus != nil {
		tick.Last, tick.Next = t.ScheduleStatus.Last, t.ScheduleStatus.Next
	}
	return tick, nil
}
