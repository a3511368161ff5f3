package protocol

import (
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/job"
)

// A feature is a part of an assignment that changes where or how a process runs, and
// that agents of earlier releases do not know. The pool gives an assignment that needs a
// feature only to nodes whose agent has said in Ready that it has the feature.

const (
	// FeatureAhead is Assignment.Room and Cancel.IfWaiting. The pool assigns a node more than
	// runs there at once only if its agent has it.
	FeatureAhead   = "ahead"
	FeatureSecrets = "secrets" // Assignment.Secrets
	// FeatureScript is Assignment.Args, and scripts with another interpreter than a plain
	// shell. Agents of the first release run every script by `bash -l`.
	FeatureScript = "script"
	// FeatureTree is the field Tree of Assignment.Source.
	FeatureTree = "tree"
)

// Features lists all features of this release, in order. An agent of this release says
// them in Ready.
func Features() []string { return []string{FeatureAhead, FeatureScript, FeatureSecrets, FeatureTree} }

// FeaturesNeeded lists the features that an agent must have for an assignment, in order;
// nil: every agent can run it.
func FeaturesNeeded(a Assignment) []string {
	var needed []string
	if a.Room > 0 {
		needed = append(needed, FeatureAhead)
	}
	if !job.IsPlainScript(a.Script, a.Args) {
		needed = append(needed, FeatureScript)
	}
	if len(a.Secrets) > 0 {
		needed = append(needed, FeatureSecrets)
	}
	if s := a.Session; s != nil {
		if s.Jupyter == JupyterHub {
			needed = append(needed, FeatureHub)
		}
		needed = append(needed, FeatureSession)
		if s.Home == HomeShare {
			needed = append(needed, FeatureSessionHome)
		}
		if len(a.Secrets) > 0 {
			needed = append(needed, FeatureSessionSecrets)
		}
	}
	if a.Source != nil && a.Source.Tree != "" {
		needed = append(needed, FeatureTree)
	}
	if a.Session != nil && len(a.Session.Ways) > 0 {
		needed = append(needed, FeatureWays)
	}
	return needed
}

// Booting says how far a node is that does not take work yet, and what it waits for. An
// agent sends it when the stage or the reason changes. A pool of the first release finds
// nothing in it that it knows, and passes over it.
type Booting struct {
	Stage  string `json:"stage"`            // StageShare, StageSetup or StageGPUs
	Reason string `json:"reason,omitempty"` // what it waits for, or what went wrong, for people; one line or the last lines of a log
	Failed bool   `json:"failed,omitempty"` // the stage will not succeed on this node: the pool gives the node up
	Boot   string `json:"boot"`             // as in Ready
	Name   string `json:"name"`             // as in Ready
	Size   string `json:"size"`             // as in Ready
}

// Stages of the boot of a node, in their order.
const (
	StageShare = "share" // the shares are to be mounted, and jobs must be able to write there
	StageSetup = "setup" // the pool's setup script runs
	StageGPUs  = "gpus"  // the GPUs of the size are to be there
)

// Versions lists the versions of the protocol that this release reads, in order.
func Versions() []int {
	var all []int
	for v := OldestVersion; v <= Version; v++ {
		all = append(all, v)
	}
	return all
}

// CommonVersion is the highest version that this release and an agent read, which has said
// its versions in Ready; false: there is none.
func CommonVersion(agent []int) (v int, ok bool) {
	if len(agent) == 0 {
		agent = []int{1}
	}
	for v := Version; v >= OldestVersion; v-- {
		if slices.Contains(agent, v) {
			return v, true
		}
	}
	return 0, false
}

// ForeignVersions says for people why an agent cannot be spoken to.
func ForeignVersions(agent []int) string {
	return fmt.Sprintf("its agent reads %s of the messages, and this release %s: bring both to one release with `dsvm upgrade`",
		versionsText(agent[:min(len(agent), 5)]), versionsText(Versions()))
}

func versionsText(all []int) string {
	word := "version"
	if len(all) != 1 {
		word = "versions"
	}
	return word + " " + strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ", "), "[]")
}
