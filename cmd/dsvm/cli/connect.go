package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/wire"
)

const (
	// A session that waits is looked at so often, later less so: a boot takes minutes.
	firstLook, longestLook = 500 * time.Millisecond, 5 * time.Second
	// startingLook is how often one is looked at whose node makes the account: that takes a
	// second or two.
	startingLook = 300 * time.Millisecond
	// giveUpTime bounds what is done when nobody waits any more.
	giveUpTime = 10 * time.Second
)

// stay is what somebody wants: to be in a session of a pool.
type stay struct {
	pool, team string
	intent     string        // wire.IntentOpen or wire.IntentRejoin
	timeout    time.Duration // 0 = as long as it takes
}

func (w *stay) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.team, "team", "", "team that the session counts for (default: yours, if you are in one only)")
	c.Flags().Var(length{&w.timeout}, "timeout", "how long to wait, such as 90s or 10m (default: as long as it takes)")
}

func connectCommand(p *Program) *cobra.Command {
	want := stay{intent: wire.IntentOpen}
	c := &cobra.Command{
		Use: "connect POOL", Short: "Get a place on a node of an interactive pool", Args: exactly("the name of a POOL"),
		Long: `Get a place on a node of an interactive pool: the session that you have there, or
a new one. It waits while a node boots, says what it waits for, and at the end how
to go on. Called again, it returns the same session, on the same node.

--timeout gives up waiting, and ends the session if this command has started it.
Ctrl-C asks whether to end it.`,
		Example:           "  dsvm connect lab\n  dsvm connect lab --timeout 10m\n  dsvm connect lab -o json",
		ValidArgsFunction: firstOf(p.completePools),
		RunE: func(c *cobra.Command, args []string) error {
			want.pool = args[0]
			session, err := p.enter(c.Context(), want)
			if err != nil {
				return err
			}
			return p.answer(session, howToGoOn(session)...)
		},
	}
	want.flags(c)
	return c
}

// howToGoOn says what somebody can do with a session that is ready.
func howToGoOn(s wire.Session) []string {
	lines := []string{fmt.Sprintf("You are on node %s (%s).", s.Node, s.Size), ""}
	if s.Missing[protocol.MissingSSH] == "" {
		lines = append(
			lines,
			fmt.Sprintf("  dsvm ssh %s        a shell; `ssh %s` too, after `dsvm ssh config`", s.Pool, hostName(s.Pool)),
			fmt.Sprintf("  dsvm code %s       VS Code", s.Pool),
		)
	}
	if s.Missing[protocol.MissingJupyter] == "" {
		lines = append(lines, fmt.Sprintf("  dsvm jupyter %s    JupyterLab in the browser", s.Pool))
	}
	lines = append(lines, "")
	if missing := missingTexts(s.Missing); len(missing) > 0 {
		lines = append(append(lines, missing...), "")
	}
	return append(lines, fmt.Sprintf("`dsvm session stop %s` ends it; `dsvm session explain %s` says what keeps it.", s.Pool, s.Pool))
}

// connectToSessions is connect as the person who has signed in, or who owns the instance on
// this machine. Anybody else the instance tells to sign in.
func (p *Program) connectToSessions() (*session, error) {
	found, err := p.findInstance()
	if err != nil {
		return nil, err
	}
	c, err := p.clientOf(found, found.TokenFile != "")
	if err != nil {
		return nil, err
	}
	return &session{c, found}, nil
}

// enter gets a session, waits until it is ready, and writes the files with which OpenSSH
// comes in.
func (p *Program) enter(ctx context.Context, want stay) (wire.Session, error) {
	s, err := p.connectToSessions()
	if err != nil {
		return wire.Session{}, err
	}
	ready, err := p.wakeUp(ctx, s, want)
	if err != nil {
		return ready, s.explain(err)
	}
	if why := ready.Missing[protocol.MissingSSH]; why != "" { // people come in by JupyterLab
		folder, err := p.sshFolder()
		if err == nil {
			err = folder.close(hostName(ready.Pool), noSSH(ready).Error())
		}
		return ready, err
	}
	return ready, s.explain(p.admit(ctx, s, ready))
}

// noSSH is the error of what needs SSH, in a session that lacks it.
func noSSH(s wire.Session) error {
	if why := s.Missing[protocol.MissingJupyter]; why != "" {
		return fmt.Errorf("node %q has no SSH: %s; nor a JupyterLab: %s", s.Node, s.Missing[protocol.MissingSSH], why)
	}
	return fmt.Errorf("node %q has no SSH: %s; `dsvm jupyter %s` opens JupyterLab there", s.Node, s.Missing[protocol.MissingSSH], s.Pool)
}

// checkSSH is that error where a session lacks SSH.
func checkSSH(s wire.Session) error {
	if s.Missing[protocol.MissingSSH] != "" {
		return noSSH(s)
	}
	return nil
}

// missingTexts are sentences about what sessions lack on a node.
func missingTexts(missing map[string]string) (all []string) {
	for _, what := range []string{protocol.MissingUsers, protocol.MissingSSH, protocol.MissingJupyter} {
		if why := missing[what]; why != "" {
			all = append(all, missingNames[what]+": "+why)
		}
	}
	return all
}

var missingNames = map[string]string{
	protocol.MissingUsers:   "one account",
	protocol.MissingSSH:     "no SSH",
	protocol.MissingJupyter: "no JupyterLab",
}

// admit has a session let this person in by OpenSSH.
func (p *Program) admit(ctx context.Context, s *session, ready wire.Session) error {
	folder, err := p.sshFolder()
	if err != nil {
		return err
	}
	key, err := folder.publicKey()
	if err != nil {
		return err
	}
	certificate, err := withPatience(ctx, func() (wire.SessionCertificate, error) { return s.CertifySession(ctx, ready.ID, key) })
	if err != nil {
		return err
	}
	return folder.admit(hostName(ready.Pool), ready.ID, certificate)
}

// wakeUp gets a session and waits until it is ready.
func (p *Program) wakeUp(ctx context.Context, s *session, want stay) (wire.Session, error) {
	outer := ctx
	if want.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, want.timeout)
		defer cancel()
	}
	_, release := p.Signals.hold() // a second Ctrl-C while it is asked about the first one
	defer release()
	var mine string // id of a session that this call has started
	for {
		found, isNew, err := p.openSession(outer, s, want) // it is not cut off: nobody would know what it has started
		if err != nil {
			return found, err
		}
		if isNew {
			mine = found.ID
		}
		before := found.State
		found, err = p.waitForSession(ctx, s, found)
		switch {
		case err != nil && ctx.Err() != nil:
			return found, p.giveUp(outer, s, found, mine, want)
		case err != nil:
			return found, err
		case found.State == wire.SessionReady:
			return found, nil
		case found.State == wire.SessionEnded && before == wire.SessionEnding:
			continue // it was the one before, and has made room
		}
		return found, endedEarly(found)
	}
}

// openSession asks for a session, with patience.
func (p *Program) openSession(ctx context.Context, s *session, want stay) (found wire.Session, isNew bool, err error) {
	stop := p.progress("asking for a session in pool " + want.pool + " at " + s.instance.URL)
	defer stop()
	found, err = withPatience(ctx, func() (wire.Session, error) {
		one, made, err := s.OpenSession(ctx, wire.SessionRequest{Pool: want.pool, Team: want.team, Intent: want.intent})
		isNew = isNew || made
		return one, err
	})
	return found, isNew, err
}

// waitForSession looks at a session until it is ready or has ended, and says what is new.
func (p *Program) waitForSession(ctx context.Context, s *session, found wire.Session) (wire.Session, error) {
	told := ""
	for try := 1; ; try++ {
		if found.State == wire.SessionReady || found.State == wire.SessionEnded {
			return found, nil
		}
		if now := sessionNews(found); now != told && p.output != outputJSON {
			told = now
			p.Say("%s", now)
		}
		every := backoff.After(try, firstLook, longestLook)
		if found.State == wire.SessionStarting {
			every = startingLook
		}
		if err := pause(ctx, every); err != nil {
			return found, err
		}
		now, err := withPatience(ctx, func() (wire.Session, error) { return s.Session(ctx, found.ID) })
		if err != nil {
			return found, err
		}
		found = now
	}
}

// sessionNews says in a sentence where a session is that is not ready.
func sessionNews(s wire.Session) string {
	text := fmt.Sprintf("your session in pool %q is %s", s.Pool, s.State)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	if s.State == wire.SessionWaiting && s.UsualWait > 0 && !strings.Contains(s.Reason, "usually ") {
		text += fmt.Sprintf(" (usually %s)", span(time.Duration(s.UsualWait)*time.Second))
	}
	return text
}

// endedEarly is the error of a session that ended before it was ready.
func endedEarly(s wire.Session) error {
	why := "no reason was recorded"
	if s.End != nil && s.End.Detail != "" {
		why = s.End.Detail
	}
	return fmt.Errorf("your session in pool %q ended before it was ready: %s", s.Pool, why)
}

// giveUp ends a session that this call has started and that nobody waits for any more. After
// Ctrl-C, it asks first.
func (p *Program) giveUp(outer context.Context, s *session, found wire.Session, mine string, want stay) error {
	interrupted := outer.Err() != nil
	late := fmt.Errorf("your session in pool %q was not ready within %s", want.pool, want.timeout)
	goesOn := fmt.Sprintf("it goes on; `dsvm session stop %s` ends it", want.pool)
	stays := fmt.Sprintf("your session in pool %q stays; `dsvm session stop %s` ends it", want.pool, want.pool)
	if mine != found.ID || mine == "" { // somebody else has started it, or an earlier call
		if interrupted {
			p.Say("%s", stays)
			return context.Canceled
		}
		return fmt.Errorf("%w; %s", late, goesOn)
	}
	if interrupted {
		if !p.Asks || p.Signals.hasHungUp() {
			p.Say("%s", stays)
			return context.Canceled
		}
		answer, _ := p.Ask("End the session, too? [y/N]")
		if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
			p.Say("%s", stays)
			return context.Canceled
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(outer), giveUpTime)
	defer cancel()
	if _, err := s.StopSession(ctx, mine); err != nil {
		return fmt.Errorf("%w, and could not be ended: %w; %s", late, err, goesOn)
	}
	if interrupted {
		p.Say("the session is asked to end")
		return context.Canceled
	}
	return fmt.Errorf("%w, and is asked to end", late)
}

// isEnded reports whether an error says that there is no live session.
func isEnded(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Code == fault.SessionEnded
}
