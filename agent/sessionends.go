package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// ended is how a session ended that was asked to.
func (s *sessions) ended(n int64, h *held) protocol.Finished {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := protocol.Finished{N: n, State: string(job.AttemptCancelled), ExitCode: job.ExitCancelled, Reason: h.ending,
		StartedAt: h.proc.At, EndedAt: time.Now().UTC()}
	if s.leaveReason != "" && h.ending == s.leaveReason {
		f.State, f.ExitCode = string(job.AttemptEvicted), job.ExitEvicted
	}
	return f
}

// lost is how a session ended whose keeper is gone.
func (s *sessions) lost(n int64, h *held, p person.Plan) protocol.Finished {
	s.removeDoor(n)
	s.clear(p)
	person.CloseAccount(p)
	s.mu.Lock()
	asked, started := h.ending, !h.proc.At.IsZero()
	s.mu.Unlock()
	switch {
	case asked != "":
		return s.ended(n, h)
	case !started:
		return startFailure(n, startfault.New(job.CauseNoProcess, "the keeper of the session was killed while it made the session"))
	}
	return protocol.Finished{N: n, State: string(job.AttemptFailed), ExitCode: exitKilled,
		Reason:    lostReason,
		StartedAt: h.proc.At, EndedAt: time.Now().UTC()}
}

// lostReason is why a session ended whose keeper is gone.
const lostReason = "what ran in the session was ended from outside: by a start of the node, or for want of memory; " +
	"files in the home are still there"

// exitKilled is the exit code of what was ended by SIGKILL.
const exitKilled = 128 + 9

// clear ends what a keeper has left, once that is gone.
func (s *sessions) clear(p person.Plan) {
	const within, look = 10 * time.Second, 20 * time.Millisecond
	for end := time.Now().Add(within); person.Lives(p.Run) && time.Now().Before(end); {
		time.Sleep(look)
	}
	if stored, err := person.Stored(p.State); err == nil {
		p.Groups = stored.Groups
	}
	if !person.Clear(p) {
		s.log.Error("ending processes of a session has failed", "session", p.Session, "user", p.User)
	}
}

// conclude records how a session ended.
func (s *sessions) conclude(n int64, f protocol.Finished) {
	s.mu.Lock()
	s.recordEnd(f)
	s.mu.Unlock()
	s.log.Info("session has ended", "n", n, "state", f.State, "reason", f.Reason)
	s.logUnsaved(s.flush(true))
	s.wakeReporter()
}

// cancelSession notes that a session is to end: also for the next life of the agent. The
// caller holds mu.
func (b *notebook) cancelSession(h *held, reason string) {
	if h.ending == "" {
		b.record(record{N: h.n, Ending: reason})
	}
}

// end ends the sessions that are to end, once that is in the journal.
func (s *sessions) end() {
	s.mu.Lock()
	type one struct {
		to  *person.Link
		why string
	}
	var all []one
	for _, h := range s.st.held {
		if h.link != nil && h.ending != "" && h.phase != ended {
			all = append(all, one{h.link.to, h.ending})
		}
	}
	s.mu.Unlock()
	for _, o := range all {
		s.ask(o.to.End(o.why, s.grace()))
	}
}

// grace is what a session has to end: none on a node that was given up.
func (s *sessions) grace() time.Duration {
	if s.stopReason() != "" {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaveReason != "" {
		return min(s.cfg.SessionGrace, max(time.Until(s.killAt), 0))
	}
	return s.cfg.SessionGrace
}

// killWithin bounds the end of all sessions of a node that was given up.
const killWithin = 20 * time.Second

// killAll ends all sessions of a node that is no part of its pool any more.
func (s *sessions) killAll(why string) {
	s.mu.Lock()
	var all []*held
	for _, h := range s.st.held {
		if h.isSession() && h.phase != ended {
			all = append(all, h)
		}
	}
	s.mu.Unlock()
	for _, h := range all {
		p, _ := s.plan(h.n, h.work) // as far as it is needed: what cannot be started can be ended
		s.endKeeper(p, why)
		s.removeDoor(h.n)
	}
	s.endStrangers()
}

// endKeeper has a keeper end its session at once.
func (s *sessions) endKeeper(p person.Plan, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), killWithin)
	defer cancel()
	if to, err := person.Connect(ctx, p.Run); err == nil {
		s.ask(to.End(why, 0))
		stop := context.AfterFunc(ctx, func() { to.Close() })
		for state, err := to.Next(); err == nil && !state.Ended; state, err = to.Next() {
		}
		stop()
		to.Close()
	}
	s.clear(p)
}

// endStrangers ends what is there of sessions that the node does not hold: of a journal that
// is lost, or of another life.
func (s *sessions) endStrangers() {
	for n, run := range person.RunFolders(s.key()) {
		s.mu.Lock()
		h := s.st.held[n]
		strange := h == nil || !h.isSession() || h.phase == ended || s.st.over != ""
		s.mu.Unlock()
		if !strange {
			continue
		}
		p, err := person.Stored(filepath.Join(s.cfg.InstanceDir, "sessions", strconv.FormatInt(n, 10)))
		if err != nil || p.Run != run {
			s.log.Warn("a session that nobody holds cannot be looked up", "folder", run, "error", fmt.Sprint(err))
			continue
		}
		s.log.Warn("ending a session that the journal does not know", "n", n, "user", p.User)
		s.removeDoor(n)
		s.endKeeper(p, "the node's agent has lost its journal")
	}
}

// forgottenAfter is how long nobody may have used a session before a node whose pool is
// silent may go with it. It is longer than pools wait by default, with their warning.
const forgottenAfter = 2 * time.Hour

// isForgotten reports whether nobody has used a session for so long. What is not known
// counts as use. The caller holds mu.
func (h *held) isForgotten() bool {
	return h.isSession() && h.link != nil && !h.link.state.Unknown && h.link.state.Idle > int64(forgottenAfter/time.Second)
}
