package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Queues of these messages, unless the deployment gives them other names.
const (
	WorkQueue       = "work"
	NodeEventsQueue = "node-events"
)

// EncodeWork writes items, in their order, as bodies of messages on `work`. No items
// give no message.
func EncodeWork(items []WorkItem) ([][]byte, error) {
	return Split(MaxBytes, Work{V: Version, Items: []WorkItem{}}, items)
}

// EncodeReport writes a report as bodies of messages on `node-events`; each says who
// the node is. The version is set here. No items give no message.
func EncodeReport(r Report) ([][]byte, error) {
	items := r.Items
	r.V, r.Items = Version, []ReportItem{}
	return Split(MaxBytes, r, items)
}

// Split writes items, in their order, as few bodies of at most limit bytes. Message is
// the body without items: an object in JSON whose last member is the empty list.
// Each item is encoded once. An item that needs more than a message is an error.
func Split[T any](limit int, message any, items []T) ([][]byte, error) {
	const end = "]}"
	encoded, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	head, ok := bytes.CutSuffix(encoded, []byte(end))
	if !ok {
		return nil, fmt.Errorf("a message does not end with its empty list of items: %T", message)
	}
	var bodies [][]byte
	var body []byte
	for i, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		if needs := len(head) + len(text) + len(end); needs > limit {
			return nil, fmt.Errorf("item %d of a message needs %d bytes; a message has at most %d", i, needs, limit)
		}
		switch {
		case body == nil:
			body = append(bytes.Clone(head), text...)
		case len(body)+len(",")+len(text)+len(end) > limit:
			bodies = append(bodies, append(body, end...))
			body = append(bytes.Clone(head), text...)
		default:
			body = append(append(body, ','), text...)
		}
	}
	if body != nil {
		bodies = append(bodies, append(body, end...))
	}
	return bodies, nil
}
