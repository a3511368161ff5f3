package protocol

import "encoding/json"

// fenceState is the state of a node's session on `work` once the pool has taken
// it from a silent node.
type fenceState struct {
	Fenced bool `json:"fenced"`
}

// FencedState is what the pool writes into the session state of a node that it
// has given up. An agent that finds it kills its attempts and stops for good.
func FencedState() []byte {
	state, _ := json.Marshal(fenceState{Fenced: true})
	return state
}

// IsFenced reports whether a session state says that the node was given up. A
// state that cannot be read says nothing.
func IsFenced(state []byte) bool {
	var s fenceState
	return len(state) <= MaxBytes && json.Unmarshal(state, &s) == nil && s.Fenced
}
