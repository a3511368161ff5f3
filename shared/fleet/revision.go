package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/fault"
)

// hashLength is how many characters of the hash a tag holds: enough for the models that
// one set has in its life.
const hashLength = 16

// Hash names the model of a set: models that Azure would see as different have different
// hashes, and the same model has the same one in every process. The capacity and the time
// of the deployment do not count. So that the hash does not depend on what a process has
// learned, the properties count that Azure may not take as if it took them.
func (m Model) Hash(set string) string {
	body, err := json.Marshal(m.body(set, form{addressSKU: true})) // keys are sorted
	if err != nil {
		return "" // not reached: the body has texts, numbers and booleans only
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])[:hashLength]
}

// IsOlderThan reports whether a newer deployment than that of the model wrote the set
// whose tag says deployed.
func (m Model) IsOlderThan(deployed time.Time) bool {
	return deployed.After(m.Deployed.Truncate(time.Second))
}

// replaces reports whether the model is to be written to a set with these tags: it has
// another one, which no newer deployment has written.
func (m Model) replaces(set string, tags map[string]*string) bool {
	return !m.IsOlderThan(deployedOf(tags)) && value(tags[ModelTag]) != m.Hash(set)
}

// deployedOf reads from a set's tags when the program was deployed that wrote its model.
func deployedOf(tags map[string]*string) time.Time {
	t, _ := time.Parse(time.RFC3339, value(tags[DeployedTag])) // an unreadable time is not known
	return t
}

// UpdateModel writes the model of a set as a whole, with the capacity that the set has:
// it never changes the number of instances. Instances that run keep their old model; List
// says which. A set that has the model already, a missing one, and one whose model a newer
// deployment wrote are left alone. The write is conditional on the read before it; after a
// conflict with another writer it is tried once more. fault.Immutable: the set was made
// with a property that cannot be changed; it must be dropped when it is empty, and made
// again.
func (c *Client) UpdateModel(ctx context.Context, set string, m Model) (Operation, error) {
	if err := m.check(); err != nil {
		return Operation{}, err
	}
	op, err := c.updateModel(ctx, set, m)
	if isStatus(err, http.StatusPreconditionFailed) {
		return c.updateModel(ctx, set, m)
	}
	return op, err
}

func (c *Client) updateModel(ctx context.Context, set string, m Model) (Operation, error) {
	got, exists, err := c.get(ctx, set)
	if err != nil || !exists || !m.replaces(set, got.Tags) {
		return Operation{}, err
	}
	if got.Etag == nil || got.SKU == nil || got.SKU.Capacity == nil {
		return Operation{}, fault.New(fault.Internal, "",
			"scale set %s was read without an ETag or a capacity; its model is not written blindly", set)
	}
	return c.put(ctx, set, m, int(*got.SKU.Capacity),
		&armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{IfMatch: got.Etag})
}

// put writes a whole set. If Azure does not take the SKU of the instances' addresses in a
// Uniform set, put writes it without, and this client never sends it again.
func (c *Client) put(ctx context.Context, set string, m Model, capacity int,
	opts *armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions,
) (Operation, error) {
	op, err := c.putOnce(ctx, set, m, capacity, opts)
	if m.PublicIP && refusesAddressSKU(err) && c.plainAddress.CompareAndSwap(false, true) {
		return c.putOnce(ctx, set, m, capacity, opts)
	}
	return op, err
}

func (c *Client) putOnce(ctx context.Context, set string, m Model, capacity int,
	opts *armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions,
) (Operation, error) {
	ctx, response, cancel := capture(ctx)
	defer cancel()
	body := m.build(set, capacity, form{addressSKU: !c.plainAddress.Load(), isNew: opts == nil || opts.IfNoneMatch != nil})
	poller, err := c.sets.BeginCreateOrUpdate(ctx, c.cfg.ResourceGroup, set, body, opts)
	return operation(ctx, opCreate, set, poller, *response, err)
}
