package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"dsvmpools/shared/fault"
)

// cleanTime bounds the deletion of the set of a check after its caller's time is over.
const cleanTime = 30 * time.Second

// checkName names the scale set of one check. It is new each time, so that two checks at
// once do not disturb each other.
func checkName() string { return "dsvm-check-" + strings.ToLower(rand.Text()[:10]) }

// Check has Azure judge a model without starting anything: it creates a scale set of the
// model with no instance, waits until the set is there, reads its instances, and deletes
// it again. So image, subnet, identity, key, size, zones and the right to do all that are
// proven for nothing. It sees neither a quota nor a lack of capacity, which only count
// instances. Usually it takes 10 to 30 s; ctx bounds the wait. An error is Azure's answer
// with its code. A set that cannot be deleted costs nothing; its name begins with
// dsvm-check-.
func (c *Client) Check(ctx context.Context, m Model) (err error) {
	if err := m.check(); err != nil {
		return err
	}
	set := checkName()
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		if _, dropped := c.Drop(clean, set); dropped != nil && err == nil {
			err = dropped // Azure has to let nodes go, too
		}
	}()
	op, err := c.put(ctx, set, m, 0, nil)
	if err != nil {
		return err
	}
	if err := c.await(ctx, op); err != nil {
		return err
	}
	_, err = c.List(ctx, set)
	return err
}

// await follows an operation to its end.
func (c *Client) await(ctx context.Context, op Operation) error {
	for op.Token != "" {
		timer := time.NewTimer(op.RetryAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
			return &fault.Error{Code: fault.Throttled, Message: "Azure has not ended the operation in time", Err: ctx.Err()}
		case <-timer.C:
		}
		done, after, err := c.Poll(ctx, op.Token)
		if done {
			return err
		}
		op.RetryAfter = after
	}
	return nil
}

// Quotas says how much room the quotas of a model's instances have, as a sentence for
// each. It needs Microsoft.Compute/locations/usages/read on the subscription. Its error is
// Azure's answer.
func (c *Client) Quotas(ctx context.Context, m Model) ([]string, error) {
	found, err := c.readQuotas(ctx, m)
	if err != nil {
		return nil, classify(err)
	}
	sentences := make([]string, len(found))
	for i, q := range found {
		sentences[i] = q.String()
	}
	return sentences, nil
}

// Room returns the refusal that a request for one more instance of a model would meet now
// for lack of quota; nil = there is room, or the quotas are not known.
func (c *Client) Room(ctx context.Context, m Model) error {
	var refused *fault.Error
	if err := foresee(c.quotas(ctx, m), m, 1); errors.As(err, &refused) {
		return refused
	}
	return nil
}
