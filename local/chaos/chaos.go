// Package chaos decides which requests to the local servers fail, and how, for
// `dsvm fault` and for tests: by injections, and with a seed, so that a failed run can
// be repeated.
//
// It only decides. Each server carries out the decision in the form that the real
// service uses. Without an injection nothing fails. The package knows nothing of the
// servers but their names, never waits, and is never used in the cloud.
//
// The command line and its JSON call an injection a rule.
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

// Action is what happens to a request that an injection hits.
type Action string

// The actions. docs/local.md says which server knows which.
const (
	None       Action = ""           // nothing
	Delay      Action = "delay"      // answered later, by Injection.Delay
	Refuse     Action = "refuse"     // answered with the error Injection.Code
	Throttle   Action = "throttle"   // answered as too many requests
	Detach     Action = "detach"     // the link is detached by force
	Disconnect Action = "disconnect" // the connection ends before anything is done
	Lose       Action = "lose"       // done, but the connection ends before the answer
	Lag        Action = "lag"        // the answer is the one of Injection.Delay ago
	Partial    Action = "partial"    // only Injection.Amount of the wanted instances are granted
	Stick      Action = "stick"      // it begins and never ends
	Evict      Action = "evict"      // a spot instance is evicted, Injection.Delay after it began to run
)

// Actions lists all actions but None.
var Actions = []Action{Delay, Refuse, Throttle, Detach, Disconnect, Lose, Lag, Partial, Stick, Evict}

// Call is a request, or a step of the server itself, that may fail.
type Call struct {
	Server    string // one of Servers
	Operation string // each server has its own list
	Entity    string // queue, table, scale set or function; instances are set/name
}

// Injection makes some requests fail. Target is SERVER/OPERATION/ENTITY. Each part may
// be a pattern with * and ?. A part that is left out matches everything.
type Injection struct {
	ID          string // set by Set.Add
	Do          Action
	Target      string
	Probability float64       // of each request; 0 = always
	After       int           // requests that it leaves alone first
	Count       int           // hits after which it stops; 0 = never
	Delay       time.Duration // for delay, lag and evict
	RetryAfter  time.Duration // in the answer of throttle
	Code        string        // the service's own error code; empty = its usual one
	Amount      int           // for partial
}

// Verdict is what happens to a request. The zero value is nothing.
type Verdict struct {
	Do         Action
	Delay      time.Duration
	RetryAfter time.Duration
	Code       string
	Amount     int
}

// State is an injection with what it has done so far.
type State struct {
	Injection
	Seen int // requests that it matched
	Hits int // of these, the requests that it made fail
}

// Set holds the active injections. Its methods may be called concurrently. A nil Set
// has no injections.
type Set struct {
	mu   sync.Mutex
	seed uint64
	next int
	all  []*injection
}

type injection struct {
	State
	rand *rand.Rand
}

// New returns a set without injections. The same seed, injections and order of
// requests give the same verdicts. Each injection has random numbers of its own.
func New(seed uint64) *Set { return &Set{seed: seed} }

// Check says what is wrong with an injection.
func (r *Injection) Check() error {
	switch {
	case !slices.Contains(Actions, r.Do):
		return fmt.Errorf("no fault is called %q; there are %s", r.Do, joinActions(Actions))
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

// Servers are the names of the servers that an injection can target.
var Servers = []string{"servicebus", "tables", "compute", "functions", "relay", "prices"}

func joinActions(actions []Action) string {
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = string(a)
	}
	return strings.Join(words, ", ")
}

// Add adds an injection after the others and returns its id. The first injection that
// hits a request decides.
func (s *Set) Add(r Injection) (string, error) {
	if err := r.Check(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	r.ID = fmt.Sprint(s.next)
	s.all = append(s.all, &injection{State: State{Injection: r}, rand: s.newRand(r.ID)})
	return r.ID, nil
}

// newRand returns the random numbers of one injection.
func (s *Set) newRand(id string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(id))
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// Remove removes one injection, or all of them with an empty id, and returns how many.
func (s *Set) Remove(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.all)
	s.all = slices.DeleteFunc(s.all, func(r *injection) bool { return id == "" || r.ID == id })
	return before - len(s.all)
}

// Seed restarts the random numbers of every injection from a seed, and sets its counts
// to zero.
func (s *Set) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed = seed
	for _, r := range s.all {
		r.Seen, r.Hits, r.rand = 0, 0, s.newRand(r.ID)
	}
}

// List returns the injections with what they did, in their order, and the seed.
func (s *Set) List() ([]State, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]State, len(s.all))
	for i, r := range s.all {
		list[i] = r.State
	}
	return list, s.seed
}

// Decide says what happens to a call. It considers only actions that the caller can
// carry out at this point, so that no injection counts a hit without effect.
func (s *Set) Decide(c Call, can ...Action) Verdict {
	if s == nil {
		return Verdict{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if !slices.Contains(can, r.Do) || !r.matches(c) || (r.Count > 0 && r.Hits == r.Count) {
			continue
		}
		r.Seen++
		if r.Seen <= r.After || (r.Probability > 0 && r.rand.Float64() >= r.Probability) {
			continue
		}
		r.Hits++
		return Verdict{Do: r.Do, Delay: r.Delay, RetryAfter: r.RetryAfter, Code: r.Code, Amount: r.Amount}
	}
	return Verdict{}
}

// matches compares without regard to case, as the services do with names. Check has
// made sure that the patterns are valid.
func (r *injection) matches(c Call) bool {
	values := []string{c.Server, c.Operation, c.Entity}
	for i, p := range strings.SplitN(strings.ToLower(r.Target), "/", 3) {
		if p == "" {
			continue
		}
		if i == 2 && !strings.Contains(p, "/") {
			values[i], _, _ = strings.Cut(values[i], "/") // the name of a set also matches its instances
		}
		if ok, _ := path.Match(p, strings.ToLower(values[i])); !ok {
			return false
		}
	}
	return true
}
