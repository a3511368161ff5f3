package service

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unicode/utf8"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

const (
	// peekedAtOnce is how many messages are looked at together.
	peekedAtOnce = 100
	// maxLooked bounds how many messages one list looks at for a filter.
	maxLooked = 5000
	// maxShown bounds what is shown of a body. A document has at most 32 KiB.
	maxShown = 64 << 10
)

// Rejected shows, sends again and removes what is on the queue `rejected`. The queue alone is
// the truth about it: a message is named by its sequence number, which it keeps, and nothing
// else is written about it.
type Rejected struct {
	bus   Bus
	jobs  *Jobs
	pools *Pools
	log   *slog.Logger
}

// List lists at most limit messages that pass the filter, the oldest first, and the token that
// continues the list, "" at its end.
func (r *Rejected) List(ctx context.Context, f wire.RejectedFilter, limit int, cont string) ([]wire.Rejected, string, error) {
	from := int64(0)
	if cont != "" {
		var err error
		if from, err = strconv.ParseInt(cont, 10, 64); err != nil || from < 0 {
			return nil, "", fault.New(fault.Invalid, "continue", "the continuation cannot be read; begin the list again without it")
		}
	}
	var out []wire.Rejected
	for looked := 0; looked < maxLooked; {
		seen, err := r.bus.Peek(ctx, r.queue(), from, peekedAtOnce)
		if err != nil {
			return nil, "", err
		}
		if len(seen) == 0 {
			return out, "", nil
		}
		looked += len(seen)
		for _, w := range seen {
			if len(out) == limit {
				return out, strconv.FormatInt(w.Sequence, 10), nil
			}
			from = w.Sequence + 1
			if one := rejectedMessage(w); f.Passes(&one) {
				out = append(out, one)
			}
		}
	}
	return out, strconv.FormatInt(from, 10), nil
}

// Show returns one message with its properties and its body. fault.NotFound: it is not on the
// queue.
func (r *Rejected) Show(ctx context.Context, key string) (wire.Rejected, error) {
	w, err := r.find(ctx, key)
	if err != nil {
		return wire.Rejected{}, err
	}
	out := rejectedMessage(w)
	out.CorrelationID, out.Subject, out.To = w.CorrelationID, w.Subject, w.To
	out.ReplyTo, out.ReplyToSessionID, out.SessionID = w.ReplyTo, w.ReplyToSessionID, w.SessionID
	out.Properties = shownProperties(w.Properties)
	body := w.Body
	if out.Cut = len(body) > maxShown; out.Cut {
		body = body[:maxShown]
		for range utf8.UTFMax { // not in the middle of a character
			if r, n := utf8.DecodeLastRune(body); r != utf8.RuneError || n != 1 {
				break
			}
			body = body[:len(body)-1]
		}
	}
	text := string(body)
	out.Encoding = wire.EncodingText
	if !utf8.Valid(body) {
		out.Encoding, text = wire.EncodingBase64, base64.StdEncoding.EncodeToString(w.Body[:min(len(w.Body), maxShown)])
	}
	out.Body = &text
	return out, nil
}

// Resubmit has a message done again, with another document if there is one, and then removes
// it. A document that is refused changes nothing. Whoever is killed between the two may do it
// again: the same document under the same id is the same job.
func (r *Rejected) Resubmit(ctx context.Context, key string, document []byte, contentType string) (wire.Resubmitted, error) {
	w, err := r.find(ctx, key)
	if err != nil {
		return wire.Resubmitted{}, err
	}
	m := bus.Message{ID: w.ID, Body: w.Body, ContentType: w.ContentType, Labels: w.Labels, Properties: senderProperties(w.Properties)}
	if document != nil {
		m.Body, m.ContentType = document, contentType
	}
	out := wire.Resubmitted{Key: key, Source: textProperty(w.Properties, propSource)}
	switch q := r.bus.Queues(); out.Source {
	case q.Jobs:
		out.Job, out.Pool, err = r.submit(ctx, m)
	case q.Pools:
		out.Pool, err = r.apply(ctx, m)
	case q.PoolEvents, q.NodeEvents:
		if document != nil {
			return out, fault.New(fault.Invalid, "", "message %s is an internal one of queue %q; it takes no other document", key, out.Source)
		}
		err = r.bus.Send(ctx, out.Source, m)
	default:
		return out, fault.New(fault.Invalid, propSource,
			"message %s does not say which queue it comes from; send its document to that queue, and delete it here", key)
	}
	if err != nil {
		return out, err
	}
	r.log.InfoContext(ctx, "rejected message resubmitted", "key", key, "source", out.Source, "job", out.Job, "pool", out.Pool)
	err = r.remove(ctx, key)
	if f := AsFault(err); err != nil && f.Code == fault.Throttled {
		return out, &fault.Error{Code: f.Code, RetryAfter: f.RetryAfter, Err: err,
			Message: fmt.Sprintf("what message %s asks for is done, but another receiver holds the message; try again to remove it", key)}
	}
	if fault.CodeOf(err) == fault.NotFound {
		err = nil // another reader has taken it
	}
	return out, err
}

func (r *Rejected) submit(ctx context.Context, m bus.Message) (id, name string, err error) {
	spec, err := ParseJob(m)
	if err != nil {
		return "", "", err
	}
	j, err := r.jobs.Submit(ctx, spec)
	if err != nil {
		return "", "", err
	}
	return j.ID, j.Spec.Pool, nil
}

func (r *Rejected) apply(ctx context.Context, m bus.Message) (name string, err error) {
	spec, err := pool.Parse(m.Body, m.ContentType)
	if err != nil {
		return "", err
	}
	_, err = r.pools.Apply(ctx, spec)
	return spec.Name, err
}

// Delete removes a message. What it asked for is not done. fault.NotFound: it is not on the
// queue.
func (r *Rejected) Delete(ctx context.Context, key string) error {
	if _, err := parseKey(key); err != nil {
		return err
	}
	err := r.remove(ctx, key)
	if err == nil {
		r.log.InfoContext(ctx, "rejected message deleted", "key", key)
	}
	return err
}

func (r *Rejected) remove(ctx context.Context, key string) error {
	n, err := parseKey(key)
	if err != nil {
		return err
	}
	if err = r.bus.Remove(ctx, r.queue(), n); fault.CodeOf(err) == fault.NotFound {
		return noMessage(key)
	}
	return err
}

func (r *Rejected) queue() string { return r.bus.Queues().Rejected }

func (r *Rejected) find(ctx context.Context, key string) (bus.Waiting, error) {
	n, err := parseKey(key)
	if err != nil {
		return bus.Waiting{}, err
	}
	seen, err := r.bus.Peek(ctx, r.queue(), n, 1)
	switch {
	case err != nil:
		return bus.Waiting{}, err
	case len(seen) == 0 || seen[0].Sequence != n:
		return bus.Waiting{}, noMessage(key)
	}
	return seen[0], nil
}

// parseKey reads the sequence number that a key is. What cannot be one names no message.
func parseKey(key string) (int64, error) {
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != key {
		return 0, noMessage(key)
	}
	return n, nil
}

func noMessage(key string) error {
	return fault.New(fault.NotFound, "", "there is no rejected message %.50q; `dsvm rejected list` shows those that are there", key)
}

// rejectedMessage is a message as a list shows it.
func rejectedMessage(w bus.Waiting) wire.Rejected {
	out := wire.Rejected{
		Key:         strconv.FormatInt(w.Sequence, 10),
		Source:      textProperty(w.Properties, propSource),
		Reason:      textProperty(w.Properties, propReason),
		Field:       textProperty(w.Properties, propField),
		MessageID:   w.ID,
		ContentType: w.ContentType,
		Size:        len(w.Body),
	}
	if at, err := time.Parse(time.RFC3339Nano, textProperty(w.Properties, propRejectedAt)); err == nil {
		out.RejectedAt = &at
	} else if !w.EnqueuedAt.IsZero() {
		out.RejectedAt = &w.EnqueuedAt
	}
	spec, _ := job.Parse(w.Body, w.ContentType)
	of := NewRefusedJob(spec, w.ID)
	out.Job, out.Pool = of.ID, of.Pool
	return out
}

func textProperty(properties map[string]any, name string) string {
	text, _ := properties[name].(string)
	return text
}

// senderProperties are the properties without those that the refusal has added.
func senderProperties(all map[string]any) map[string]any {
	out := make(map[string]any, len(all))
	for name, v := range all {
		switch name {
		case propReason, propField, propSource, propRejectedAt:
		default:
			out[name] = v
		}
	}
	return out
}

// shownProperties are the sender's properties in forms that JSON has.
func shownProperties(all map[string]any) map[string]any {
	out := senderProperties(all)
	for name, v := range out {
		switch v := v.(type) {
		case time.Time:
			out[name] = v.UTC().Format(time.RFC3339Nano)
		case nil, string, bool, int, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, []byte:
		default:
			out[name] = fmt.Sprint(v)
		}
	}
	return out
}
