package pool

import (
	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// NoNode is the error for a name or id that no node has. known are the names of
// nodes, for a hint.
func NoNode(name string, known []string) *fault.Error {
	hint := "`dsvm node list` shows the nodes"
	if near := document.Nearest(name, known); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return fault.New(fault.NotFound, "node", "there is no node %q; %s", document.Clip(name), hint)
}
