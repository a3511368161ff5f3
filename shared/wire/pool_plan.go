package wire

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"dsvmpools/shared/pool"
)

// PoolPlan is what applying a document would do to a pool.
type PoolPlan struct {
	Name    string        `json:"name"`
	Action  string        `json:"action"` // create, change or nothing
	Changes []FieldChange `json:"changes"`
	Effects []PlanEffect  `json:"effects"`
	// Warnings are sentences for the person who wrote the document.
	Warnings []string `json:"warnings,omitempty"`
}

// What applying a document does.
const (
	PlanCreate  = "create"
	PlanChange  = "change"
	PlanNothing = "nothing"
)

// FieldChange is a field of the document that gets another value; null = it has none.
type FieldChange struct {
	Field string `json:"field"` // such as nodes.max
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// PlanEffect is something that follows from the changes at once.
type PlanEffect struct {
	Kind   string   `json:"kind"`
	Count  int      `json:"count"`  // of what the kind is about
	Detail string   `json:"detail"` // a sentence
	Names  []string `json:"names"`  // of nodes, jobs or teams, the first of them
}

// Kinds of effects.
const (
	NodesLeave    = "nodesLeave"    // nodes whose size or capacity the document has no more
	NodesReplaced = "nodesReplaced" // nodes that are made of something else
	NodesAdded    = "nodesAdded"    // nodes that are asked for at once
	NodesOverMax  = "nodesOverMax"  // nodes beyond nodes.max
	JobsNeverRun  = "jobsNeverRun"  // waiting jobs that no node could ever run
	JobsEnd       = "jobsEnd"       // running jobs that are cancelled
	JobsRequeued  = "jobsRequeued"  // running jobs that go back in line
	PoolGoesDown  = "poolGoesDown"  // the schedule takes the pool down at once
	LimitsLowered = "limitsLowered" // teams that may have less running
)

// ChangesOf lists the fields in which two documents differ, by name. Of a list, all of it
// is one value. nil, the first: there is no document yet.
func ChangesOf(from, to *pool.Spec) []FieldChange {
	before, after := fieldsOf(from), fieldsOf(to)
	names := maps.Clone(before)
	maps.Copy(names, after)
	changes := []FieldChange{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !reflect.DeepEqual(before[name], after[name]) {
			changes = append(changes, FieldChange{name, before[name], after[name]})
		}
	}
	return changes
}

// fieldsOf are the values of a document by the names of their fields.
func fieldsOf(spec *pool.Spec) map[string]any {
	out := map[string]any{}
	if spec == nil {
		return out
	}
	body, err := json.Marshal(spec)
	var all map[string]any
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		panic(err) // a spec was read from JSON
	}
	flatten(out, "", all)
	return out
}

func flatten(out map[string]any, prefix string, fields map[string]any) {
	for name, value := range fields {
		if below, ok := value.(map[string]any); ok {
			flatten(out, prefix+name+".", below)
			continue
		}
		out[prefix+name] = value
	}
}
