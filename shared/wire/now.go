package wire

import (
	"time"

	"dsvmpools/shared/scheduler"
)

// Now is what goes on at a time, over all pools: all that a page shows of it with one request.
type Now struct {
	Time        time.Time   `json:"time"`
	User        string      `json:"user"` // whose jobs are in Mine; "" = nobody was named
	Team        string      `json:"team"` // whose jobs are counted; "" = those of all teams
	Jobs        NowJobs     `json:"jobs"`
	Mine        NowJobs     `json:"mine"`
	Pools       []NowPool   `json:"pools"`
	CostPerHour string      `json:"costPerHour"` // of the nodes that are billed, of all pools; decimal, or "unknown"
	MonthToDate string      `json:"monthToDate"` // what the nodes of the month in UTC cost until now, a minute old; decimal, or "unknown"
	Unpriced    int         `json:"unpriced"`    // nodes whose price is not known: CostPerHour is without them
	Currency    string      `json:"currency"`
	Budgets     []NowBudget `json:"budgets"`
	Troubles    int         `json:"troubles"` // how many /api/troubles lists
	Version     string      `json:"version"`  // of the app
}

// NowJobs are jobs that have not ended, by state. A sweep counts as its members.
type NowJobs struct {
	Held     int `json:"held"`
	Queued   int `json:"queued"`
	Assigned int `json:"assigned"`
	Running  int `json:"running"`
}

// NewNowJobs is the shape of counts.
func NewNowJobs(c scheduler.JobCounts) NowJobs {
	return NowJobs{Held: c.Held, Queued: c.Queued, Assigned: c.Assigned, Running: c.Running}
}

// NowPool is a pool in one short line.
type NowPool struct {
	Name         string    `json:"name"`
	State        PoolState `json:"state"`
	Kind         string    `json:"kind"`
	Nodes        NowNodes  `json:"nodes"`
	Queued       int       `json:"queued"`
	Running      int       `json:"running"`
	PricePerHour string    `json:"pricePerHour"` // of its nodes that are billed; decimal, or "unknown"
}

// NowNodes are the nodes of a pool, by what they do; those of which there are none are left out.
type NowNodes struct {
	Ready    int `json:"ready,omitempty"`
	Busy     int `json:"busy,omitempty"`
	Starting int `json:"starting,omitempty"`
	Leaving  int `json:"leaving,omitempty"`
	Bad      int `json:"bad,omitempty"` // lost, failed, quarantined
}

// NewNowNodes is the shape of counts of nodes.
func NewNowNodes(c NodeCounts) NowNodes {
	return NowNodes{Ready: c.Ready, Busy: c.Busy, Starting: c.Creating + c.Booting, Leaving: c.Draining + c.Deleting, Bad: c.Other}
}

// NowBudget is how far a budget is used.
type NowBudget struct {
	Name   string `json:"name"`
	Spent  string `json:"spent"`  // decimal
	Amount string `json:"amount"` // decimal
	Level  string `json:"level"`
}

// NowQuery says whose jobs are counted.
type NowQuery struct {
	Team string // "" = those of all teams
	User string // whose jobs are in Now.Mine
}

// TimelineQuery asks what nodes did.
type TimelineQuery struct {
	Pool     string // "" = those of all pools
	From, To time.Time
	Buckets  int // parts of the time, 1 to MaxBuckets
}

// Bounds of a timeline.
const (
	DefaultBuckets = 288 // five minutes each, of a day
	MaxBuckets     = 1440
	// MaxTimeline is the longest time that one answer is about.
	MaxTimeline = 7 * 24 * time.Hour
)

// Timeline is what nodes did.
type Timeline struct {
	From  time.Time      `json:"from"`
	Step  int            `json:"step"` // seconds of each part
	Nodes []TimelineNode `json:"nodes"`
}

// TimelineNode has a letter for each part of the time: - none, b boot, w busy, i idle, d draining, x lost,
// failed or quarantined. Of several in one part it is the first of x, d, b, w, i.
type TimelineNode struct {
	Node   string `json:"node"`
	Pool   string `json:"pool"`
	States string `json:"states"`
}

// Trouble is something that a person must do something about.
type Trouble struct {
	Kind  string     `json:"kind"`           // one of TroubleKinds
	About string     `json:"about"`          // what it is about, such as: pool "cpu"
	Pool  string     `json:"pool,omitempty"` // to which pool that belongs
	Node  string     `json:"node,omitempty"` // name of the node
	Text  string     `json:"text"`           // one sentence
	Since *time.Time `json:"since"`          // null = it is not known
	Do    string     `json:"do"`             // the next step
}

// Kinds of troubles.
const (
	TroubleQuota    = "quota"    // a quota is used up
	TroubleSize     = "size"     // Azure does not take what a pool asks for
	TroubleBlocked  = "blocked"  // no size of a pool can be had, and jobs wait
	TroubleBreaker  = "breaker"  // nodes do not come up
	TroubleModel    = "model"    // what nodes are made of cannot be written
	TroubleNetwork  = "network"  // people cannot come in beside the relay
	TroubleNode     = "node"     // a node is broken and billed
	TroubleRejected = "rejected" // messages were rejected
	TroubleLedger   = "ledger"   // use waits to be recorded
	TroubleBudget   = "budget"   // a budget holds work, or cannot be read
	TroublePrices   = "prices"   // what nodes cost is not known, or old
	TroubleUnknown  = "unknown"  // it cannot be found out whether there is any of a kind
)
