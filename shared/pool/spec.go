package pool

import "dsvmpools/shared/job"

// Spec is a pool's document as Parse leaves it: checked, with every default
// filled in. Fields of the contract that are not here are refused by Parse.
type Spec struct {
	Name        string            `json:"name"`
	Kind        string            `json:"kind"`              // KindBatch or KindInteractive
	OS          string            `json:"os"`                // Linux or Windows
	License     string            `json:"license,omitempty"` // of Windows, that the owner has already; "" = it is in the price
	Region      string            `json:"region,omitempty"`  // "" = the deployment's
	Sizes       []string          `json:"sizes"`             // the ladder, best first
	Capacity    string            `json:"capacity"`          // regular | spot | spot-then-regular
	Image       Image             `json:"image"`             // zero = the deployment's
	Nodes       Range             `json:"nodes"`
	IdleTimeout job.Duration      `json:"idleTimeout"`
	Pack        bool              `json:"pack"`
	Shares      []Share           `json:"share,omitempty"` // mounted on every node, beside the deployment's own at SharePath
	Setup       string            `json:"setup,omitempty"` // script that a node runs as root before it takes work, at every boot
	Schedule    *Schedule         `json:"schedule,omitempty"`
	Limits      Limits            `json:"limits,omitzero"`
	Weights     map[string]int    `json:"weights,omitempty"` // of teams' shares; "default" for teams that are not named
	Labels      map[string]string `json:"labels,omitempty"`
	Sessions    *Sessions         `json:"sessions,omitempty"` // of an interactive pool
	Access      []string          `json:"access,omitempty"`   // ways to its nodes, the preferred one first: AccessRelay
	Balancer    Balancer          `json:"balancer,omitzero"`  // the way of this name
	Users       Members           `json:"users,omitzero"`     // who may open a session
}

// Range bounds the number of nodes.
type Range struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Limits bounds what each team may have running at once.
type Limits struct {
	Team    map[string]Limit `json:"team,omitempty"`
	Default Limit            `json:"default,omitzero"` // of each team that is not named
}

// Limit is what one team may have running at once; nil is no limit.
type Limit struct {
	Jobs *int `json:"jobs,omitempty"`
	CPUs *int `json:"cpus,omitempty"`
	GPUs *int `json:"gpus,omitempty"`
}

// Schedule takes a pool down every night. Times are HH:MM in TimeZone.
type Schedule struct {
	DownAt    string       `json:"downAt"`
	UpAt      string       `json:"upAt,omitempty"` // "" = jobs may bring it up again at once
	TimeZone  string       `json:"timeZone"`
	OnRunning string       `json:"onRunning"` // wait | requeue | kill
	Grace     job.Duration `json:"grace"`     // of a session, from its warning to its end; an agent kills a cancelled job after its own grace
}
