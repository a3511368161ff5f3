package pool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"dsvmpools/shared/fault"
)

// Network is what a pool is to have in the network of its nodes, for people who come in beside
// the relay. It follows from the rows: from the sessions that live, and where their nodes listen.
type Network struct {
	Open     []string `json:"open,omitempty"`     // addresses inside the network, HOST:PORT, that people outside may connect to; sorted
	Balancer bool     `json:"balancer,omitempty"` // there is a balancer in front of Open
	Address  bool     `json:"address,omitempty"`  // the balancer has its public address; always with Balancer
}

// IsNone reports whether nothing is to be there.
func (n *Network) IsNone() bool { return len(n.Open) == 0 && !n.Balancer && !n.Address }

// Key tells what is wanted from everything else; it is never empty.
func (n *Network) Key() string {
	text, err := json.Marshal(n)
	if err != nil {
		panic(err) // texts and booleans
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Opening is how far the network of a pool is, in its head. The zero Opening is that of a pool
// that has nothing there.
type Opening struct {
	Wanted  string    `json:"wanted,omitempty"`  // Network.Key of what is to be there; "" = nothing, and nothing is
	Since   time.Time `json:"since,omitzero"`    // since when it is wanted, or when something else was last done to it
	Done    bool      `json:"done,omitempty"`    // a call has found it as it is wanted
	Sure    bool      `json:"sure,omitempty"`    // and so late after Since that no earlier call is under way any more
	LookAt  time.Time `json:"lookAt,omitzero"`   // when to look again
	Tries   int       `json:"tries,omitempty"`   // failed looks in a row
	Problem string    `json:"problem,omitempty"` // why the last look has failed; "" = it has not
	Address string    `json:"address,omitempty"` // of the balancer, HOST:PORT for people; "" = there is none
}

// Networked is the answer to Effects.Network.
type Networked struct {
	Key     string        // of the Network that was asked for
	Began   time.Time     // when the call began
	After   time.Duration // it is not done, and Azure works on it: look again after so long; 0 = it is done
	Address string        // of the balancer, HOST:PORT; "" = it has none
	Err     *fault.Error  // nil = it has not failed
}

func (Networked) event() {}

// Balancer is what a pool's way of this name is like.
type Balancer struct {
	Keep bool `json:"keep,omitempty"` // its address stays while the pool has no nodes, and is paid for
}
