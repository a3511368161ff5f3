package scheduler

import (
	"maps"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/plain"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// How far a node is before it takes work, and what its agent understands.

// Bounds of what a report adds to a node's row.
const (
	maxFeatures   = 20
	longestWord   = 40  // of a feature and a stage, in bytes
	longestReason = 600 // of a stage, in bytes: the last lines of a log
)

// stageWords say what a node does in a stage, as the end of a sentence.
var stageWords = map[string]string{
	protocol.StageSetup: "runs its setup",
	protocol.StageShare: "waits for the share",
	protocol.StageGPUs:  "waits for its GPUs",
}

// stageText says what a node does that does not take work yet; "" = not known.
func stageText(n *Node) string { return StageText(n.Stage, n.StageWhy) }

// StageText says for people what a node does in a stage of its boot, as the end of a
// sentence; "" = it has reported none.
func StageText(stage, why string) string {
	if stage == "" {
		return ""
	}
	text := stageWords[stage]
	if text == "" {
		text = "is in the stage " + stage
	}
	if why != "" {
		text += ": " + why
	}
	return text
}

// recordBooting takes in how far a node is. A node that took work before and boots again
// takes none meanwhile.
func (rs *reports) recordBooting(n *Node, b protocol.Booting, at time.Time) {
	if b.Boot == n.Boot || n.Boot != "" && at.Before(n.BootAt) {
		return // it says less than a report that is here already
	}
	rs.nodes.openBilling(n)
	if n.State == pool.NodeCreating {
		rs.nodes.setState(n, pool.NodeBooting, "")
	}
	if stage, why := plain.Clip(b.Stage, longestWord), plain.Clip(b.Reason, longestReason); stage != n.Stage || why != n.StageWhy {
		if n.Stage == "" {
			n.StageAt = rs.now
		}
		n.Stage, n.StageWhy = stage, why
		rs.indexNode(n)
		rs.touchNode(n)
	}
	if b.Failed {
		rs.takeOutOfUse(n, "it failed while it "+stageText(n))
	}
}

// takeOutOfUse gives a node up whose agent cannot take work, or lets it leave when the jobs
// have ended that it has.
func (rs *reports) takeOutOfUse(n *Node, why string) {
	switch {
	case n.State == pool.NodeCreating || n.State == pool.NodeBooting:
		rs.nodes.setState(n, pool.NodeFailed, why)
		rs.capacity.recordNodeFailure(n, why)
	case len(n.jobs) == 0 && (n.State == pool.NodeReady || n.State == pool.NodeDraining):
		rs.nodes.setState(n, pool.NodeFailed, why)
	case n.State == pool.NodeBusy:
		rs.nodes.setState(n, pool.NodeDraining, why)
	}
}

// recordRelease takes in what an agent that is ready understands. It reports false if the
// pool cannot speak to it.
func (rs *reports) recordRelease(n *Node, r protocol.Ready) bool {
	features := slices.Clone(r.Features[:min(len(r.Features), maxFeatures)])
	for i := range features {
		features[i] = plain.Clip(features[i], longestWord)
	}
	version, ok := protocol.CommonVersion(r.Versions)
	if keys := clipHostKeys(r.HostKeys); !slices.Equal(keys, n.HostKeys) {
		n.HostKeys = keys
		rs.touchNode(n)
	}
	if at := clipListens(r.Listens); at != n.Listens {
		n.Listens = at
		rs.touchNode(n)
	}
	if missing := clipMissing(r.Missing); rs.Head.Spec.IsInteractive() && !maps.Equal(missing, n.Missing) {
		n.Missing = missing
		rs.touchNode(n)
	}
	if !slices.Equal(features, n.Features) || n.Stage != "" || n.Protocol != version {
		n.Features, n.Protocol, n.Stage, n.StageWhy, n.StageAt = features, version, "", "", time.Time{}
		rs.indexNode(n)
		rs.touchNode(n)
	}
	if ok {
		return true
	}
	rs.takeOutOfUse(n, protocol.ForeignVersions(r.Versions))
	return false
}

// Bounds of the public keys of a node's SSH server, and of where it listens.
const (
	maxHostKeys    = 4
	longestAddress = 48  // bytes of an address of version 6 with its port
	longestHostKey = 800 // bytes of a line; RSA with 4096 bits has some 740
)

// clipHostKeys keeps the host keys of a report that are one line of a possible length. They
// are written into files of people's machines.
func clipHostKeys(keys []string) (good []string) {
	for _, key := range keys {
		isLine := !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
		if isLine && len(strings.Fields(key)) >= 2 && len(key) <= longestHostKey && len(good) < maxHostKeys {
			good = append(good, key)
		}
	}
	return good
}

// clipListens takes in where a node listens; what is too long for an address is none.
func clipListens(l *protocol.Listens) protocol.Listens {
	if l == nil || max(len(l.Public), len(l.Inside)) > longestAddress {
		return protocol.Listens{}
	}
	return *l
}

// longestMissing bounds a sentence about what sessions lack on a node, in bytes.
const longestMissing = 300

// clipMissing keeps what is said in the words of the protocol, with sentences of a possible length.
func clipMissing(missing map[string]string) (good map[string]string) {
	for _, what := range []string{protocol.MissingUsers, protocol.MissingSSH, protocol.MissingJupyter} {
		if why, ok := missing[what]; ok {
			if good == nil {
				good = map[string]string{}
			}
			good[what] = plain.Clip(why, longestMissing)
		}
	}
	return good
}

// takesWork reports whether work may be given to a node.
func (n *Node) takesWork() bool {
	return (n.State == pool.NodeReady || n.State == pool.NodeBusy) && n.Stage == ""
}

// features are those that a job needs of its node's agent, as in shape.
func (j *Job) features() string {
	s := &j.Spec
	if j.Session != nil {
		return joinFeatures(protocol.FeaturesNeeded(protocol.Assignment{Secrets: s.Secrets, Session: &protocol.Session{Home: j.Session.Home}}))
	}
	if len(s.Secrets)+len(s.Args) == 0 && !strings.HasPrefix(s.Script, "#!") && s.Source == nil {
		return ""
	}
	needed := protocol.FeaturesNeeded(protocol.Assignment{Script: s.Script, Args: s.Args, Secrets: s.Secrets, Source: s.Source})
	if needed == nil {
		return ""
	}
	return joinFeatures(needed)
}

func joinFeatures(all []string) string { return " " + strings.Join(all, " ") }

// hasFeatures reports whether a node's agent has all of these features.
func (n *Node) hasFeatures(needs string) bool {
	for _, f := range strings.Fields(needs) {
		if !slices.Contains(n.Features, f) {
			return false
		}
	}
	return true
}

// lacks reports whether the next nodes of a set have agents without some of these features,
// as far as is known: the last node that has reported and is not outdated shows it, also if
// it has left. What nobody has seen may have all of them.
func (s *State) lacks(set *pool.Set, needs string) bool {
	if needs == "" || set.Model.IsOutdated() {
		return false
	}
	var last *Node
	for _, n := range s.Nodes {
		if n.Set == set.Name && !n.Outdated && n.Boot != "" && (last == nil || n.BootAt.After(last.BootAt)) {
			last = n
		}
	}
	return last != nil && !last.hasFeatures(needs)
}

// countWith counts the nodes that take work and whose agents have these features.
func (s *State) countWith(needs string) int {
	count := 0
	for _, n := range s.Nodes {
		if n.takesWork() && n.hasFeatures(needs) {
			count++
		}
	}
	return count
}

// featuresText names features for people.
func featuresText(needs string) string {
	return "`" + strings.Join(strings.Fields(needs), "`, `") + "`"
}

// noSetHas reports whether no rung gives nodes for a shape whose agents have the features
// that it needs.
func (s *State) noSetHas(of shape) bool {
	if of.needs == "" {
		return false
	}
	for i := range s.Head.Sets {
		if set := &s.Head.Sets[i]; s.rungOf(set.Name) >= 0 && s.canGive(set, of) {
			return false
		}
	}
	return true
}

// canGive reports whether a set's nodes can take a shape.
func (s *State) canGive(set *pool.Set, of shape) bool {
	if of.regular && set.Spot && s.Head.Spec.HasRegular() || s.lacks(set, of.needs) {
		return false
	}
	has := s.newNodeResources(set)
	return has.CPUs == 0 || times(has, job.Resources{}, of.resources()) >= 1
}

// newerNodes is what a job waits for that needs a feature which no rung gives.
const newerNodes = "newer nodes, which `dsvm upgrade` brings"

// nodesForPeople is what a session waits for whose pool has no node that can let people in. The
// pool knows only that agents do not name the feature; its agent's log says why.
const nodesForPeople = "nodes with openssh-server and an agent that runs as root (on one machine, `dsvm up` as root), " +
	"and when the old ones have left, `dsvm pool resume`"

// letsNobodyIn reports whether a pool for people has no node for them.
func (s *State) letsNobodyIn() bool {
	return s.Head.Spec.Kind == pool.KindInteractive && s.countWith(protocol.FeatureSession) == 0
}

// allLackFeatures reports whether no rung gives nodes with the features that the jobs in
// line need, whichever of them it is.
func (s *State) allLackFeatures() bool {
	for _, class := range s.line.classes {
		for _, l := range class {
			for of := range l.shapes {
				if !s.noSetHas(of) {
					return false
				}
			}
		}
	}
	return true
}
