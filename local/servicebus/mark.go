package servicebus

import (
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// Application properties that say why a message is a dead letter.
const (
	deadReason      = "DeadLetterReason"
	deadDescription = "DeadLetterErrorDescription"
)

// mark writes into a message why the queue itself dead-letters it.
func mark(raw []byte, cause queue.Cause) []byte {
	reason, description := "MaxDeliveryCountExceeded", "Message could not be consumed after the maximum number of delivery attempts."
	if cause == queue.Expired {
		reason, description = "TTLExpiredException", "The message expired and was dead lettered."
	}
	return setProperties(amqp.Map{{Key: deadReason, Value: reason}, {Key: deadDescription, Value: description}})(raw)
}

// setProperties is an edit that adds application properties to a message, whose
// keys are strings there; nil when there are none to add.
func setProperties(set amqp.Map) func(raw []byte) []byte {
	pairs := make([]amqp.Pair, 0, len(set))
	for _, p := range set {
		switch key := p.Key.(type) {
		case amqp.Symbol:
			pairs = append(pairs, amqp.Pair{Key: string(key), Value: p.Value})
		case string:
			pairs = append(pairs, p)
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	return func(raw []byte) []byte {
		m, err := amqp.ParseMessage(raw)
		if err != nil {
			return raw
		}
		m.Application = m.Application.With(pairs...)
		return m.Append(make([]byte, 0, len(raw)+128))
	}
}
