//go:build unix

package compute

import (
	"cmp"
	"net/http"
	"time"

	"dsvmpools/local/chaos"
)

// Steps in the life of an instance. An injection can target them like requests.
const (
	stepAllocate = "allocate" // a set gets new instances: partial, refuse
	stepBoot     = "boot"     // an instance starts: delay, stick, refuse
	stepRun      = "run"      // an instance has started: evict, lose (deleted by somebody else), refuse (its guest shuts down)
	stepRemove   = "remove"   // it is deleted: delay, stick, refuse
)

// defaultRetry is the Retry-After of a throttled call when the injection names none.
const defaultRetry = 10 * time.Second

func (s *Server) decideOutcome(operation, entity string, can ...chaos.Action) chaos.Verdict {
	return s.cfg.Chaos.Decide(chaos.Call{Server: "compute", Operation: operation, Entity: entity}, can...)
}

// injectIntoCall carries out the injections for a request. It returns the error to answer
// with, or the verdict that the end of the request must carry out.
func (s *Server) injectIntoCall(r *http.Request, operation, entity string) (chaos.Verdict, error) {
	can := []chaos.Action{chaos.Delay, chaos.Refuse, chaos.Throttle, chaos.Disconnect, chaos.Lose}
	if operation == "list" {
		can = append(can, chaos.Lag)
	}
	o := s.decideOutcome(operation, entity, can...)
	switch o.Do {
	case chaos.Delay:
		t := time.NewTimer(o.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		case <-s.stop:
		}
	case chaos.Refuse:
		return o, s.failure(cmp.Or(o.Code, "ServiceUnavailable"), entity)
	case chaos.Throttle:
		return o, throttled(operation, o.RetryAfter)
	case chaos.Disconnect:
		panic(http.ErrAbortHandler)
	}
	return o, nil
}

// failure returns an error of the service about a scale set or an instance.
func (s *Server) failure(code, entity string) *Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := "the requested size"
	if st, err := s.findSet(entity); err == nil {
		size = st.SKU.Name
	}
	return s.failureOf(code, entity, size)
}

func (s *Server) failureOf(code, name, size string) *Failure {
	return failure(code, "{size}", size, "{location}", s.cfg.Location, "{name}", name)
}

// throttled returns the error of Compute for too many requests.
func throttled(operation string, after time.Duration) *Failure {
	if after <= 0 {
		after = defaultRetry
	}
	group := cmp.Or(policyNames[operation], operation)
	return &Failure{
		Status:     http.StatusTooManyRequests,
		Code:       "OperationNotAllowed",
		Message:    "The server rejected the request because too many requests have been received for this subscription.",
		Details:    []Detail{{Code: "TooManyRequests", Target: group, Message: `{"operationGroup":"` + group + `"}`}},
		RetryAfter: after,
	}
}
