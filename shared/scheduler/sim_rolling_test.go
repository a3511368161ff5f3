package scheduler_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// Deployments. Now and then a new release is deployed, which wants another model of each
// set. Its processes take the place of the older ones one after the other, so that for a
// while both drive the pool. Some releases want what cannot be changed: such a set has to
// be made again.

// errFixed is Azure's answer to a change of a property that a set keeps for its life.
var errFixed = fault.New(fault.Immutable, "", "the property cannot be changed")

// planDeployments draws when deployments come: among the faults, and when all is quiet.
func (w *world) planDeployments(seed int64) {
	w.deployment, w.remade, w.modelCalls = 1, map[int]bool{3: seed%4 == 1}, map[string]int{}
	if seed%5 == 2 {
		w.deployment = secretsSince
	} else {
		w.deployAt = []time.Time{w.now.Add(time.Duration(30+w.rng.Intn(200)) * time.Second), w.now.Add(time.Duration(300+w.rng.Intn(500)) * time.Second)}
	}
	if seed%7 == 6 {
		w.rules.RollWithin = 20 * time.Second
	}
}

// deploy lets a deployment come whose time has come, and its processes after it.
func (w *world) deploy() {
	if len(w.deployAt) > 0 && !w.now.Before(w.deployAt[0]) {
		w.deployment++
		w.deployAt = w.deployAt[1:]
	}
	for _, p := range w.processes {
		if p.deployment < w.deployment && w.rng.Intn(20) == 0 {
			p.deployment = w.deployment
		}
	}
}

// models are the hashes of the model that a set has and of the one that a deployment would
// write. An older deployment leaves what a newer one has written.
func (set *scaleSet) models(deployment int) (has, wanted string) {
	if set.model == 0 {
		return "", fmt.Sprint("model ", deployment)
	}
	return fmt.Sprint("model ", set.model), fmt.Sprint("model ", max(set.model, deployment))
}

// mustMakeAgain reports whether Azure refuses to change a set as a deployment wants it.
func (w *world) mustMakeAgain(set *scaleSet, deployment int) bool {
	return set.model > 0 && set.model < deployment && w.remade[deployment]
}

// isRolled reports whether all instances are of the newest deployment, and no other comes.
func (w *world) isRolled() bool {
	return len(w.deployAt) == 0 && !slices.ContainsFunc(slices.Collect(maps.Values(w.instances)), func(v *vm) bool { return v.model < w.deployment })
}

// UpdateModel writes the model of a set.
func (p *ports) UpdateModel(ctx context.Context, _ string, _ pool.Spec, of pool.Set) (op drive.Operation, err error) {
	w := p.w
	p.owed.done("model "+of.Name, "")
	err = p.call(ctx, "compute set", of.Name, func(*call) error {
		set := w.set(of.Name)
		w.checker.writesModel(of.Name, p.deployment)
		switch {
		case w.mustMakeAgain(set, p.deployment):
			return errFixed
		case w.chance(10):
			return fault.New(fault.Throttled, "", "slow down")
		case w.chance(10):
			return fault.New(fault.Invalid, "", "the image is gone")
		case set.model == 0 || set.model >= p.deployment:
			return nil
		}
		set.model = p.deployment
		w.checker.seen["model written"]++
		if set.unbacked {
			w.checker.seen["model written over a failure"]++
		}
		made := &operation{doneAt: w.now.Add(time.Duration(w.rng.Intn(20)) * time.Second)}
		w.fillUp(of, set, made, 0)
		if w.rng.Intn(2) == 0 || w.sticks(made) {
			w.nextOp++
			op = drive.Operation{Token: fmt.Sprint("t", w.nextOp), After: 2 * time.Second}
			if set.token != nil {
				set.token.preempted = true
			}
			set.token = made
			w.ops[op.Token] = set.token
		}
		return nil
	})
	return answer(op, err)
}

// writesModel checks that the model of a set is not asked to be written again and again.
func (c *checker) writesModel(set string, deployment int) {
	key := fmt.Sprint(set, " ", deployment)
	c.w.modelCalls[key]++
	const most = 12 // one a minute at the most, with pauses that become longer, by several processes
	if n := c.w.modelCalls[key]; n > most {
		c.fail("model", "the model of %s is asked to be written for the %dth time", key, n)
	}
}

// idleOutdated is how long an idle node may be outdated in a pool where nothing goes wrong:
// longer than all pauses between requests to write a model, and than a boot.
const idleOutdated = 12 * time.Minute

// rolled checks what becomes of outdated nodes: idle ones do not stay, and no job is ended
// because its node is outdated before the deployment says so.
func (c *checker) rolled(s *scheduler.State, r *scheduler.Result) {
	for vmid, items := range r.Effects.Work {
		for _, i := range items {
			if i.Cancel == nil || i.Cancel.Reason != scheduler.RollRequeue {
				continue
			}
			c.seen["rolled job"]++
			within, overdue := c.w.rules.RollWithin, false
			if j := s.Assigned(vmid, i.Cancel.Target); j != nil {
				overdue = slices.ContainsFunc(j.On(), func(on string) bool { // a gang ends as a whole
					at := s.Nodes[on].OutdatedAt
					return !at.IsZero() && c.w.now.Sub(at) >= within-2*c.slack
				})
			}
			if within == 0 || !overdue {
				c.fail("rolled", "the attempt %d on %s is ended because of its node's model", i.Cancel.Target, vmid)
			}
		}
	}
	for _, n := range s.Nodes {
		if n.Outdated {
			c.seen["node outdated"]++
		}
		v := c.w.instances[n.VMID]
		if n.State != pool.NodeReady || v == nil || v.hung || v.model == c.w.set(v.set).model || c.w.faults || !c.open(s) {
			continue
		}
		if since := later(n.Since, c.growing.calm); c.w.now.Sub(since) > idleOutdated {
			c.fail("outdated", "node %s is idle since %s and of model %d, its set is of %d", n.VMID, since, v.model, c.w.set(v.set).model)
		}
	}
	for name, calls := range r.Effects.Sets {
		if calls.Drop && calls.Set.Model.Fixed {
			c.seen["set made again"]++
			if c.w.there(name) > 0 {
				c.fail("busy node", "set %s is to be made again and has instances", name)
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// secretsSince is the deployment whose agents are the first to know secrets.
const secretsSince = 2

// hubSince is the deployment whose agents are the first to know JupyterHub.
const hubSince = 3

// features are those that an agent says it has.
func (v *vm) features() []string {
	if v.model < secretsSince {
		return nil
	}
	features := protocol.Features()
	for _, f := range []string{protocol.FeatureSession, protocol.FeatureWays} {
		if !slices.Contains(features, f) {
			features = append(features, f)
		}
	}
	if v.model >= hubSince {
		features = append(features, protocol.FeatureHub)
	}
	return features
}

// understands checks that an agent gets no assignment that it does not know how to run.
func (c *checker) understands(v *vm, a *protocol.Assignment) {
	for _, f := range protocol.FeaturesNeeded(*a) {
		c.seen["feature"]++
		if !slices.Contains(v.features(), f) {
			c.fail("features", "job %s needs %s, and is given to %s, whose agent does not know it", a.Job, f, v.vmid)
		}
	}
}

// bootsOn brings a VM up, sometimes by a stage that takes time or fails. It reports whether
// its agent takes work.
func (w *world) bootsOn(v *vm) bool {
	says := func(b protocol.Booting) {
		b.Name, b.Boot = v.name(), fmt.Sprint(v.boots+1)
		w.report(v, protocol.ReportItem{Booting: &b})
	}
	if !v.booted {
		v.booted, v.stageTo = true, w.now
		switch {
		case w.chance(30):
			w.checker.seen["stage failed"]++
			v.broken = "mute"
			says(protocol.Booting{Stage: protocol.StageSetup, Reason: "pip: not found", Failed: true})
			return false
		case w.rng.Intn(3) == 0:
			w.checker.seen["stage"]++
			v.stageTo = w.now.Add(time.Duration(1+w.rng.Intn(8)) * time.Second)
			says(protocol.Booting{Stage: protocol.StageShare, Reason: "it is not mounted"})
		}
	}
	if v.boots == 0 && !w.now.Before(v.stageTo) {
		w.begin(v)
	}
	return v.boots > 0
}
