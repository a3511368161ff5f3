package servicebus

import (
	"time"

	"dsvmpools/local/chaos"
)

// The operations for which failures can be injected. chaos.Call.Entity is the queue.
const (
	atConnect    = "connect"
	atAttach     = "attach"
	atSend       = "send"
	atReceive    = "receive"
	atSettle     = "settle"
	atManagement = "management"
	atToken      = "token"
)

// forcedDetach is the condition with which the service itself ends a link.
const forcedDetach = "amqp:link:detach-forced"

// decideFailure asks which failure to inject here. It performs a delay itself.
func (s *Server) decideFailure(operation, entity string, can ...chaos.Action) chaos.Verdict {
	if s.cfg.Chaos == nil {
		return chaos.Verdict{}
	}
	o := s.cfg.Chaos.Decide(chaos.Call{Server: "servicebus", Operation: operation, Entity: entity}, append(can, chaos.Delay)...)
	if o.Do == chaos.Delay {
		s.pause(o.Delay)
		return chaos.Verdict{}
	}
	return o
}

// pause waits until the time is over or the server stops.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.web.done:
	}
}

// condition is the error condition of an injection, or the given one.
func condition(o chaos.Verdict, or string) string {
	if o.Code != "" {
		return o.Code
	}
	return or
}

// injected is the description of an injected error.
const injected = "This failure was injected."
