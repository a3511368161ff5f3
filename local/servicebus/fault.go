package servicebus

import (
	"time"

	"dsvmpools/local/chaos"
)

// Where things can go wrong on demand. chaos.Call.Entity is the queue.
const (
	atConnect    = "connect"
	atAttach     = "attach"
	atSend       = "send"
	atReceive    = "receive"
	atSettle     = "settle"
	atManagement = "management"
	atToken      = "token"
)

// forcedDetach is how the service ends a link for reasons of its own.
const forcedDetach = "amqp:link:detach-forced"

// decide asks what is to go wrong here, and waits if that is a delay.
func (s *Server) decide(operation, entity string, can ...chaos.Action) chaos.Outcome {
	if s.cfg.Chaos == nil {
		return chaos.Outcome{}
	}
	o := s.cfg.Chaos.Decide(chaos.Call{Server: "servicebus", Operation: operation, Entity: entity}, append(can, chaos.Delay)...)
	if o.Do == chaos.Delay {
		s.pause(o.Delay)
		return chaos.Outcome{}
	}
	return o
}

// pause waits, but not beyond the server's end.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.web.done:
	}
}

// condition is the error that a fault asks for.
func condition(o chaos.Outcome, or string) string {
	if o.Code != "" {
		return o.Code
	}
	return or
}

// injected is what a client is told of an error that was asked for.
const injected = "A fault was asked for here."
