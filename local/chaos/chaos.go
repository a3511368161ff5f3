// Package chaos says which requests to the local servers go wrong, and how: by
// rules, and with a seed, so that a run that failed can be had again. It only
// decides; each server carries out what it is told, in the form that the real
// service would use. Without a rule everything goes well.
package chaos

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Action is what happens to a request that a rule hits.
type Action string

// The actions. docs/local.md tells which server knows which.
const (
	None       Action = ""           // it goes well
	Delay      Action = "delay"      // answered later, by Rule.Delay
	Refuse     Action = "refuse"     // answered with the error Rule.Code
	Throttle   Action = "throttle"   // answered as too many requests
	Detach     Action = "detach"     // the link is detached by force
	Disconnect Action = "disconnect" // the connection ends before anything is done
	Lose       Action = "lose"       // done, but the connection ends before the answer
	Lag        Action = "lag"        // the answer is as it was Rule.Delay ago
	Partial    Action = "partial"    // only Rule.Amount of what is asked for is granted
	Stick      Action = "stick"      // it begins and never ends
	Evict      Action = "evict"      // a spot instance is taken back, Rule.Delay after it began to run
)

// Actions are all of them.
var Actions = []Action{Delay, Refuse, Throttle, Detach, Disconnect, Lose, Lag, Partial, Stick, Evict}

// Call is a request, or a step of the server's own, that may go wrong.
type Call struct {
	Server    string // servicebus, tables, compute, functions
	Operation string // what is asked; each server has its list
	Entity    string // queue, table or scale set; instances are set/name
}

// Injection makes some of the requests go wrong. Target is SERVER/OPERATION/ENTITY,
// where each part may be a pattern (* and ?), and parts that are left out match
// everything.
type Injection struct {
	ID          string // given by the set
	Do          Action
	Target      string
	Probability float64       // of each request; 0 = always
	After       int           // leave that many requests alone first
	Count       int           // stop after that many hits; 0 = never
	Delay       time.Duration // for delay, lag and evict
	RetryAfter  time.Duration // said with throttle
	Code        string        // the service's own error code; empty = its usual one
	Amount      int           // for partial
}

// Outcome is what is to happen to a request. The zero value says: nothing.
type Outcome struct {
	Do         Action
	Delay      time.Duration
	RetryAfter time.Duration
	Code       string
	Amount     int
}

// State is a rule with what it has done so far.
type State struct {
	Injection
	Seen int // requests it applied to
	Hits int // of them, those that went wrong
}

// Set is the rules in force. All methods may be called at once from anywhere; a
// nil Set has no rules.
type Set struct {
	mu    sync.Mutex
	seed  uint64
	next  int
	rules []*injection
}

type injection struct {
	State
	rand *rand.Rand
}

// New returns a set without rules. The same seed, rules and order of requests
// give the same outcomes; rules draw independently of each other.
func New(seed uint64) *Set { return &Set{seed: seed} }

// Check says what is wrong with a rule.
func (r *Injection) Check() error {
	switch {
	case !slices.Contains(Actions, r.Do):
		return fmt.Errorf("no fault is called %q; there are %s", r.Do, join(Actions))
	case r.Probability < 0 || r.Probability > 1:
		return fmt.Errorf("probability is between 0 and 1, not %v", r.Probability)
	case r.After < 0 || r.Count < 0 || r.Amount < 0 || r.Delay < 0 || r.RetryAfter < 0:
		return fmt.Errorf("a count or a time cannot be below 0")
	case (r.Do == Delay || r.Do == Lag) && r.Delay == 0:
		return fmt.Errorf("%s needs a delay: say by how much", r.Do)
	}
	parts := strings.SplitN(r.Target, "/", 3)
	if !slices.Contains(Servers, parts[0]) {
		return fmt.Errorf("target %q begins with no server; write SERVER/OPERATION/ENTITY with one of %s", r.Target, strings.Join(Servers, ", "))
	}
	for _, p := range parts {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("target %q holds a pattern that cannot be read: %w", r.Target, err)
		}
	}
	return nil
}

// Servers are those that rules can aim at.
var Servers = []string{"servicebus", "tables", "compute", "functions"}

func join(as []Action) string {
	words := make([]string, len(as))
	for i, a := range as {
		words[i] = string(a)
	}
	return strings.Join(words, ", ")
}

// Add puts a rule behind the others and returns its id. A request goes wrong by
// the first rule that hits it.
func (s *Set) Add(r Injection) (string, error) {
	if err := r.Check(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	r.ID = fmt.Sprint(s.next)
	s.rules = append(s.rules, &injection{State: State{Injection: r}, rand: s.source(r.ID)})
	return r.ID, nil
}

func (s *Set) source(id string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(id))
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// Remove takes one rule away, or all with an empty id, and returns how many.
func (s *Set) Remove(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.rules)
	s.rules = slices.DeleteFunc(s.rules, func(r *injection) bool { return id == "" || r.ID == id })
	return before - len(s.rules)
}

// Seed starts every rule's draws anew from another seed, and its counts with it.
func (s *Set) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed = seed
	for _, r := range s.rules {
		r.Seen, r.Hits, r.rand = 0, 0, s.source(r.ID)
	}
}

// List returns the rules with what they did, in their order, and the seed.
func (s *Set) List() ([]State, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]State, len(s.rules))
	for i, r := range s.rules {
		list[i] = r.State
	}
	return list, s.seed
}

// Decide says what is to happen to a call. Only actions that the caller can
// carry out at this point are considered, so that a rule is not used up in vain.
func (s *Set) Decide(c Call, can ...Action) Outcome {
	if s == nil {
		return Outcome{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if !slices.Contains(can, r.Do) || !r.matches(c) || (r.Count > 0 && r.Hits == r.Count) {
			continue
		}
		r.Seen++
		if r.Seen <= r.After || (r.Probability > 0 && r.rand.Float64() >= r.Probability) {
			continue
		}
		r.Hits++
		return Outcome{Do: r.Do, Delay: r.Delay, RetryAfter: r.RetryAfter, Code: r.Code, Amount: r.Amount}
	}
	return Outcome{}
}

// matches compares without regard to case, as the services' names are. Check
// has made sure that the patterns can be read.
func (r *injection) matches(c Call) bool {
	have := []string{c.Server, c.Operation, c.Entity}
	for i, p := range strings.SplitN(strings.ToLower(r.Target), "/", 3) {
		if p == "" {
			continue
		}
		if i == 2 && !strings.Contains(p, "/") {
			have[i], _, _ = strings.Cut(have[i], "/") // a set's name also means its instances
		}
		if ok, _ := path.Match(p, strings.ToLower(have[i])); !ok {
			return false
		}
	}
	return true
}
