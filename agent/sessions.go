package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/agent/secret"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// sessions are the node's sessions of people, seen from the agent: each is kept by a process
// of its own, which lives on when the agent ends, and is found again by the next one. A
// session has no output in which a gap could mislead, so that, unlike an attempt, it can be
// taken over.
type sessions struct {
	*notebook
	cfg      Config
	unserved error // why the node can have none; nil = it can
	secrets  *secret.Reader
	own      *account // that sessions run as, where they can have no account of their own; nil = they can
	hostKey  string   // path of the node's private key
	hostKeys []string // its public half, as a line of OpenSSH

	doorListen, doorInside string // see doorAddress

	certificateWanted chan struct{} // has a value once a session needs the certificate; see keepCertificate

	following sync.WaitGroup
	doorFiles sync.Mutex // held for writing one file of the door; taken before mu
}

// newSessions finds out whether the node can have sessions, and makes its host key once.
func newSessions(cfg Config, b *notebook, secrets *secret.Reader) *sessions {
	s := &sessions{notebook: b, cfg: cfg, secrets: secrets, certificateWanted: make(chan struct{}, 1)}
	if s.own, s.unserved = ownAccount(cfg); s.unserved == nil {
		s.unserved = s.checkWays()
	}
	var err error
	s.hostKey, s.hostKeys, err = makeHostKey(filepath.Join(cfg.InstanceDir, "sessions", "host"))
	if s.unserved == nil {
		s.unserved = err
	}
	if s.unserved != nil {
		s.log.Info("missing sessions of people on this node", "reason", s.unserved.Error())
		return s
	}
	if s.doorListen, s.doorInside, err = doorAddress(cfg); err != nil {
		s.log.Warn("the door of the node cannot listen, so that the relay alone leads to it", "reason", err.Error())
	}
	return s
}

// features are those of this node's agent.
func (s *sessions) features() []string {
	all := protocol.Features()
	if s.unserved == nil {
		all = protocol.SessionFeatures()
	}
	if servesGuests && s.hostKeys != nil {
		all = append(all, protocol.FeatureExec, protocol.FeatureShell)
	}
	if s.unserved == nil && s.doorListen != "" {
		all = append(all, protocol.FeatureWays)
	}
	slices.Sort(all)
	return all
}

// link is what the agent has of a session's keeper. It is guarded by notebook.mu.
type link struct {
	to     *person.Link // nil = it is not connected
	state  person.State
	at     time.Time // when the state came
	warned int64     // number of the last warning that was passed on
}

// key names the node's sessions among those of a machine.
func (s *sessions) key() string { return s.cfg.Pool + "." + s.cfg.VMID }

func (s *sessions) doorFile(n int64, suffix string) string {
	return filepath.Join(s.cfg.InstanceDir, "doors", strconv.FormatInt(n, 10)+suffix)
}

// plan is what the keeper of a session has to know. The error is a sentence for the person.
func (s *sessions) plan(n int64, w protocol.Assignment) (person.Plan, error) {
	ps := w.Session
	number := strconv.FormatInt(n, 10)
	p := person.Plan{
		N:         n,
		Session:   w.Job,
		User:      ps.User,
		UID:       ps.UID,
		Pool:      s.cfg.Pool,
		Node:      s.cfg.Node,
		VMID:      s.cfg.VMID,
		Share:     s.cfg.Share,
		OnShare:   ps.Home == protocol.HomeShare,
		CAs:       ps.CAs,
		GPUs:      w.GPUs,
		Sudo:      ps.Sudo,
		Probe:     ps.Probe,
		OwnUsers:  s.cfg.OwnUsers,
		HostKey:   s.hostKey,
		State:     filepath.Join(s.cfg.InstanceDir, "sessions", number),
		Run:       person.RunFolder(s.key(), n),
		Homes:     filepath.Join(s.cfg.InstanceDir, "home"),
		DoorState: s.doorFile(n, ".state.json"),
		Every:     s.cfg.SessionVotes,
	}
	if !w.Whole {
		p.CPUs, p.Memory = w.CPUs, w.Memory
	}
	if ps.Door != nil {
		p.WebURL = ps.Door.WebURL
	}
	p.WebBase = s.webBase(ps)
	switch {
	case s.unserved != nil:
		return p, startfault.New(job.CauseRelease, "%w", s.unserved)
	case w.Unknown != "":
		return p, checkAssignment(w)
	case ps.Home == protocol.HomeShare && fileSystem(s.cfg.Share) == "cifs":
		return p, startfault.New(job.CauseDocument, "`home: share` is not supported on SMB, which keeps no owners of files; "+
			"write `home: local`, or a `share` with `protocol: nfs`")
	}
	if ps.Jupyter == protocol.JupyterLab || ps.Jupyter == protocol.JupyterHub {
		p.Lab = s.findJupyter()
	}
	missing := s.missing()
	if missing[protocol.MissingJupyter] != "" {
		p.Lab = ""
	}
	if s.own != nil {
		s.own.take(&p, missing)
	}
	if ps.Jupyter == protocol.JupyterHub && p.Lab != "" {
		lab, hub := s.findHub()
		if hub == "" {
			return p, startfault.New(job.CauseDocument, "JupyterHub is not there beside %s; `pip install jupyterhub` in the same "+
				"environment, or write `jupyter: lab` in the pool's document", p.Lab)
		}
		p.Lab, p.Hub = lab, hub
	}
	if missing[protocol.MissingSSH] == "" {
		p.SSHD, _ = person.FindSSHD()
	}
	if p.SSHD == "" && p.Lab == "" {
		return p, startfault.New(job.CauseDocument, "nobody could come into the session: %s; and there is no JupyterLab in it",
			missing[protocol.MissingSSH])
	}
	if err := p.Check(); err != nil {
		return p, startfault.New(job.CauseDocument, "%w", err)
	}
	return p, nil
}

// open starts a session that waits. The keeper goes on with it by itself.
func (s *sessions) open(ctx context.Context, n int64, h *held) {
	s.mu.Lock()
	h.stopStartDeadline()
	ok := h.phase == waiting && !s.closing && s.leaveReason == ""
	if ok {
		s.record(record{N: n, Starting: true})
	}
	s.mu.Unlock()
	if !ok {
		return
	}
	// Written before there is anything of it, so that it is never forgotten.
	if err := s.flush(false); err != nil {
		s.conclude(n, startFailure(n, err))
		return
	}
	s.follow(ctx, n, h)
}

// adopt takes over the sessions that an earlier life of the agent has left, and ends those
// that it knows nothing of: its journal may be lost.
func (s *sessions) adopt(ctx context.Context) {
	s.mu.Lock()
	var ours []*held
	for _, n := range s.st.numbers() {
		if h := s.st.held[n]; h.isSession() && (h.phase == starting || h.phase == running) {
			ours = append(ours, h)
		}
	}
	s.mu.Unlock()
	s.endStrangers()
	for _, h := range ours {
		s.log.Info("taking over session", "n", h.n, "session", startfault.Clip(h.work.Job), "user", h.work.Session.User)
		s.follow(ctx, h.n, h)
	}
}

// isSession reports whether an assignment is a session.
func (h *held) isSession() bool { return h.work.Session != nil }

// follow follows a session until it ends or the context does, which leaves it alone.
func (s *sessions) follow(ctx context.Context, n int64, h *held) {
	s.following.Go(func() {
		f, ended := s.watch(ctx, n, h)
		if !ended {
			return
		}
		s.conclude(n, f)
	})
}

// watch starts the keeper of a session, unless it has one, and takes in what that says. It
// returns how the session ended; false = the agent ends, and the session does not.
func (s *sessions) watch(ctx context.Context, n int64, h *held) (protocol.Finished, bool) {
	s.mu.Lock()
	started := h.phase == running
	s.mu.Unlock()
	p, err := s.plan(n, h.work)
	if err != nil && !started { // what runs goes on, even where no other could be started now
		return startFailure(n, err), true
	}
	if !started {
		if err := s.startKeeper(ctx, &p, h.work.Secrets); err != nil {
			if ctx.Err() != nil {
				return protocol.Finished{}, false
			}
			person.Clear(p)
			var secretFault startfault.Fault
			if !errors.As(err, &secretFault) {
				err = startfault.New(job.CauseNoProcess, "the session cannot be started on the node: %w", err)
			}
			return startFailure(n, err), true
		}
	}
	to, err := person.Connect(ctx, p.Run)
	if err != nil {
		if ctx.Err() != nil {
			return protocol.Finished{}, false
		}
		return s.lost(n, h, p), true
	}
	stop := context.AfterFunc(ctx, func() { to.Close() })
	defer stop()
	defer to.Close()
	s.mu.Lock()
	h.link = &link{to: to}
	why := h.ending
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		h.link = nil
		s.mu.Unlock()
	}()
	if why != "" {
		s.ask(to.End(why, s.grace()))
	}
	for {
		state, err := to.Next()
		switch {
		case ctx.Err() != nil:
			return protocol.Finished{}, false
		case err != nil:
			return s.lost(n, h, p), true
		case state.Failure != "":
			to.Close() // it has heard all, so that the keeper ends
			s.clear(p)
			cause := job.CauseDocument
			if state.Node {
				cause = job.CauseScratch
			}
			return startFailure(n, startfault.New(cause, "%s: %s", state.Step, state.Failure)), true
		case state.Ended:
			s.closeDoor(n)
			to.Close()
			s.clear(p) // before the node may go, which would leave its folder and its groups
			return s.ended(n, h), true
		}
		s.take(n, h, p, state)
	}
}

// startKeeper reads the secrets of a session, makes its control groups and starts its keeper.
func (s *sessions) startKeeper(ctx context.Context, p *person.Plan, secrets map[string]string) error {
	for _, dir := range []string{filepath.Dir(p.State), filepath.Dir(p.DoorState)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if !person.Lives(p.Run) {
		values, err := s.secrets.ReadAll(ctx, secrets)
		if err != nil {
			return err
		}
		if err := person.GiveSecrets(*p, values); err != nil {
			return err
		}
	}
	if !person.Lives(p.Run) && !person.HasGroups() && !p.Own {
		var err error
		if p.Groups, err = makeSessionGroups(s.key()+"."+strconv.FormatInt(p.N, 10), p.CPUs, p.Memory); err != nil {
			s.log.Warn("missing control groups: cpus and memory of the session are not bounded", "reason", err.Error())
		}
	}
	return person.Start(*p, s.log)
}

// take takes in what a keeper says.
func (s *sessions) take(n int64, h *held, p person.Plan, state person.State) {
	s.mu.Lock()
	before := h.link.state
	h.link.state, h.link.at = state, time.Now()
	hasDesktop := state.Ready && state.Desktop != nil && (before.Desktop == nil || *before.Desktop != *state.Desktop)
	news := state.Ready && before.Verdict() != state.Verdict() && len(state.Votes) > 0 || hasDesktop
	isNew := state.Ready && !before.Ready // also of one that was taken over: its start may not be reported yet
	var warn *person.Warning
	if state.Ready && h.warning != nil && h.warning.Number > h.link.warned {
		warn, h.link.warned, s.out.sessionsDue = h.warning, h.warning.Number, true
	}
	to := h.link.to
	s.mu.Unlock()
	if isNew || hasDesktop { // the door first: who has the password comes at once
		s.logDoor(h.work, s.writeDoor(n, h.work, p, state))
	}
	if warn != nil {
		s.ask(to.Warn(*warn))
	}
	if isNew {
		s.mu.Lock()
		if h.phase == starting {
			s.record(record{N: n, Started: sessionProcess()})
		}
		s.out.started = append(s.out.started, n)
		s.mu.Unlock()
		s.logUnsaved(s.flush(true))
	}
	if news {
		s.mu.Lock()
		s.out.sessionsDue = true
		s.mu.Unlock()
	}
	if news || isNew || warn != nil {
		s.wakeReporter()
	}
}

// warn passes warnings on that have come.
func (s *sessions) warn() {
	s.mu.Lock()
	type one struct {
		to *person.Link
		w  person.Warning
	}
	var all []one
	for _, h := range s.st.held {
		if h.link != nil && h.link.state.Ready && h.warning != nil && h.warning.Number > h.link.warned {
			h.link.warned, s.out.sessionsDue = h.warning.Number, true // the message's end wakes the reporter
			all = append(all, one{h.link.to, *h.warning})
		}
	}
	s.mu.Unlock()
	for _, o := range all {
		s.ask(o.to.Warn(o.w))
	}
}

// askForDesktops passes on who wants a password. One that is lost is asked for again.
func (s *sessions) askForDesktops(all []protocol.Desktop) {
	for _, d := range all {
		s.mu.Lock()
		var to *person.Link
		if h := s.st.held[d.Target]; h != nil && h.link != nil && h.link.state.Ready {
			to, s.out.sessionsDue = h.link.to, true // what it has is said again
		}
		s.mu.Unlock()
		if to != nil {
			s.ask(to.Desktop(d.SealTo))
		}
	}
}

// ask logs what a keeper could not be asked: it is gone, which its link tells.
func (s *sessions) ask(err error) {
	if err != nil {
		s.log.Warn("asking the keeper of a session has failed", "error", err.Error())
	}
}

// states are what the node knows of its sessions, for a report. The caller holds mu.
func (b *notebook) states() (all []protocol.SessionState) {
	for _, n := range b.st.numbers() {
		h := b.st.held[n]
		if h.link == nil || h.phase != running || len(h.link.state.Votes) == 0 {
			continue
		}
		k := h.link.state
		if k.Idle > 0 {
			k.Idle += int64(time.Since(h.link.at) / time.Second)
		}
		all = append(all, protocol.SessionState{N: n, Warned: h.link.warned, Idle: k.Idle, Unknown: k.Unknown, Votes: k.Votes,
			Connections: k.Connections, Relayed: k.Relayed, DoorClosed: k.DoorClosed, Desktop: k.Desktop})
	}
	return all
}
