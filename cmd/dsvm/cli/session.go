package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

func sessionCommand(p *Program) *cobra.Command {
	c := noun("session", "List, show, keep and stop sessions in interactive pools",
		sessionList(p), sessionShow(p), sessionStop(p), sessionExtend(p), sessionExplain(p), sessionReady(p))
	c.Example = "  dsvm session list\n  dsvm session extend lab 8h\n  dsvm session stop lab"
	return c
}

// sessionColumns are those of a list of sessions.
const sessionColumns = "POOL USER *STATE ?3NODE ?5SIZE ?2<IDLE ?4<SSH ?4<JUPYTER ?6OPENED ?3<COST ?1ENDS REASON"

func sessionList(p *Program) *cobra.Command {
	var pool, user string
	c := &cobra.Command{
		Use: "list", Short: "List the live sessions of all pools, or of one", Args: noArgsBut("--pool"),
		Example: "  dsvm session list\n  dsvm session list --pool lab -o json",
		RunE: showList(p, "asking for the sessions",
			func(s *session, ctx context.Context) ([]wire.Session, error) { return s.Sessions(ctx, pool, user) },
			"no sessions; `dsvm connect POOL` starts one", p.sessionTable),
	}
	c.Flags().StringVar(&pool, "pool", "", "only the sessions of this pool")
	c.Flags().StringVar(&user, "user", "", "only the sessions of this account")
	complete(c, "pool", p.completePools)
	return c
}

func (p *Program) sessionTable(all []wire.Session) *table {
	t := newTable(sessionColumns)
	for _, s := range all {
		ends := ""
		if s.EndsAt != nil {
			ends = "in " + span(s.EndsAt.Sub(p.Now()))
		}
		t.add(s.Pool, s.User, s.State, s.Node, sizeCell(s.Size), idleText(s), s.Connections["ssh"], s.Connections["jupyter"],
			p.age(s.OpenedAt), costText(s.Cost), ends, s.Reason)
	}
	return t
}

// costText is what something costs; "" = that is not known, or it costs nothing yet.
func costText(c *wire.Cost) string {
	if c == nil {
		return ""
	}
	return strings.TrimSpace(c.Amount + " " + c.Currency)
}

func idleText(s wire.Session) string {
	if s.IdleFor == 0 {
		return ""
	}
	return span(time.Duration(s.IdleFor) * time.Second)
}

// oneSession makes a command about one session, which is named by its id, or by its pool if
// it is the caller's own.
func (p *Program) oneSession(c *cobra.Command, doing string, request func(context.Context, *session, string) error) *cobra.Command {
	c.ValidArgsFunction = firstOf(p.completePools)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := p.connectToSessions()
		if err != nil {
			return err
		}
		stop := p.progress(doing + " the session " + args[0] + " at " + s.instance.URL)
		defer stop()
		id, err := s.sessionID(c.Context(), args[0])
		if err == nil {
			err = request(c.Context(), s, id)
		}
		return s.explain(err)
	}
	return c
}

// sessionID finds the id of a session: what names a pool stands for one's own session there.
func (s *session) sessionID(ctx context.Context, name string) (string, error) {
	own, _, err := s.OpenSession(ctx, wire.SessionRequest{Pool: name, Intent: wire.IntentRejoin})
	switch code := fault.CodeOf(err); {
	case err == nil:
		return own.ID, nil
	case code == fault.NotFound, code == fault.Forbidden, code == fault.Invalid:
		return name, nil // no pool of sessions, or nobody who has one: it is an id
	}
	return "", err
}

const sessionArgs = "a session: its ID, or the name of the POOL for your own"

func sessionShow(p *Program) *cobra.Command {
	return p.oneSession(&cobra.Command{
		Use: "show POOL|ID", Short: "Show a session", Args: exactly(sessionArgs),
		Long: `Show a session: your own by the name of its pool, any by its id. What keeps it
stands under votes: input, kernels, cpu, gpu, io, held and the pool's own probe. An
open connection alone keeps nothing.`,
		Example: "  dsvm session show lab\n  dsvm session show lab -o json",
	}, "asking for", func(ctx context.Context, s *session, id string) error {
		found, err := s.Session(ctx, id)
		if err != nil {
			return err
		}
		if p.output == outputJSON {
			return p.json(found)
		}
		return p.showSession(found)
	})
}

func (p *Program) showSession(s wire.Session) error {
	reason := s.Reason
	if s.End != nil {
		reason = s.End.Detail
	}
	facts := [][2]string{
		{"id", s.ID}, {"pool", s.Pool}, {"user", fmt.Sprintf("%s (%d)", s.User, s.UID)}, {"team", s.Team}, {"state", string(s.State)},
		{"reason", reason},
		{"node", strings.TrimSpace(s.Node + " " + s.Size)}, {"opened", p.at(s.OpenedAt)}, {"ready", p.at(s.ReadyAt)}, {"idle", idleText(s)},
	}
	for _, voter := range slices.Sorted(maps.Keys(s.Votes)) {
		facts = append(facts, [2]string{"vote " + voter, s.Votes[voter]})
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Connections)) {
		facts = append(facts, [2]string{"open " + kind, fmt.Sprint(s.Connections[kind])})
	}
	if s.Relayed > 0 {
		facts = append(facts, [2]string{"relayed", sizeText(s.Relayed)})
	}
	if cost := costText(s.Cost); cost != "" {
		facts = append(facts, [2]string{"cost", cost})
	}
	for _, text := range missingTexts(s.Missing) {
		facts = append(facts, [2]string{"missing", text})
	}
	if s.DoorClosed != "" {
		facts = append(facts, [2]string{"door", "closed: " + s.DoorClosed})
	}
	if s.KeepUntil != nil {
		facts = append(facts, [2]string{"kept until", p.clock(*s.KeepUntil)})
	}
	if s.EndsAt != nil {
		facts = append(facts, [2]string{"ends", p.clock(*s.EndsAt) + ", unless you use it or `dsvm session extend` it"})
	}
	if s.End != nil {
		facts = append(facts, [2]string{"ended", p.at(&s.End.At)})
	}
	return p.facts(facts)
}

func sessionExplain(p *Program) *cobra.Command {
	return p.oneSession(&cobra.Command{
		Use: "explain POOL|ID", Short: "Say why a session is where it is", Args: exactly(sessionArgs),
		Example: "  dsvm session explain lab",
	}, "explaining", func(ctx context.Context, s *session, id string) error {
		e, err := s.ExplainSession(ctx, id)
		if err != nil {
			return err
		}
		lines := []string{fmt.Sprintf("session %s is %s: %s", e.ID, e.State, p.localTimes(e.Reason))}
		if e.Unblocks != "" {
			lines = append(lines, "it waits for: "+p.localTimes(e.Unblocks))
		}
		return p.answer(e, lines...)
	})
}

func sessionStop(p *Program) *cobra.Command {
	var user string
	c := p.oneSession(&cobra.Command{
		Use: "stop POOL|ID", Short: "End a session",
		Long: `End a session: your own, or as an operator any of your team. What runs in it is
ended; what is on the share stays. Prints its state. --user ends all live sessions of
an account, in all pools, such as of somebody who has left.`,
		Example: "  dsvm session stop lab\n  dsvm session stop --user ann",
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case user == "":
				return exactly(sessionArgs)(c, args)
			case len(args) > 0:
				return WrongUse("--user ends all sessions of an account; leave %q out, or --user", args[0])
			}
			return nil
		},
	}, "stopping", func(ctx context.Context, s *session, id string) error {
		found, err := s.StopSession(ctx, id)
		if err != nil {
			return err
		}
		return p.answer(found, string(found.State))
	})
	one := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if user != "" {
			return p.stopSessionsOf(c.Context(), user)
		}
		return one(c, args)
	}
	c.Flags().StringVar(&user, "user", "", "all live sessions of this account")
	return c
}

// stopSessionsOf ends all live sessions of an account. One that cannot be ended does not keep the others.
func (p *Program) stopSessionsOf(ctx context.Context, user string) error {
	s, err := p.connectToSessions()
	if err != nil {
		return err
	}
	live, err := withPatience(ctx, func() ([]wire.Session, error) { return s.Sessions(ctx, "", user) })
	if err != nil {
		return s.explain(err)
	}
	stopped := []wire.Session{}
	var failed error
	for _, one := range live {
		now, err := withPatience(ctx, func() (wire.Session, error) { return s.StopSession(ctx, one.ID) })
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("the session of %s in pool %q was not ended: %w", one.User, one.Pool, s.explain(err)))
			continue
		}
		stopped = append(stopped, now)
	}
	if err := p.list(stopped, p.sessionTable(stopped), "no session of "+user+" was ended"); err != nil {
		return err
	}
	return failed
}

func sessionExtend(p *Program) *cobra.Command {
	by := 8 * time.Hour
	c := p.oneSession(&cobra.Command{
		Use: "extend POOL|ID [TIME]", Short: "Keep a session for a time, whether you use it or not",
		Long: `Keep your session for a time from now, 8h if you say none, whether you use it or
not. The pool's maxAge and its schedule end it all the same, which is said where it
is earlier. Prints until when it is kept.`,
		Example: "  dsvm session extend lab\n  dsvm session extend lab 2d",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				if err := (length{&by}).Set(args[1]); err != nil {
					return WrongUse("%s", err)
				}
				args = args[:1]
			}
			return exactly(sessionArgs+", and a time such as 8h")(c, args)
		},
	}, "extending", func(ctx context.Context, s *session, id string) error {
		found, err := s.ExtendSession(ctx, id, by)
		if err != nil {
			return err
		}
		if found.KeepUntil == nil || found.State == wire.SessionEnding || found.State == wire.SessionEnded {
			return fmt.Errorf("the session is %s and cannot be kept", found.State)
		}
		if found.KeepCut {
			p.Say("the session is not kept for %s: by `sessions.maxAge` or its schedule, pool %q ends it earlier", job.Duration(by), found.Pool)
		}
		return p.answer(found, p.clock(*found.KeepUntil))
	})
	return c
}

// sessionReady is what ssh runs before it connects. It waits here, where no ConnectTimeout
// runs, and never starts a session unless somebody at a terminal says so.
func sessionReady(p *Program) *cobra.Command {
	var host, instance string
	c := &cobra.Command{
		Use: "ready --for POOL" + wire.HostSuffix, Hidden: true, Args: cobra.NoArgs,
		Short: "Wait for a session and let ssh in", Example: "  dsvm session ready --for lab.dsvm",
		RunE: func(c *cobra.Command, _ []string) error {
			pool, err := poolOfHost(host)
			if err != nil {
				return err
			}
			folder, err := p.sshFolder()
			if err != nil {
				return err
			}
			if p.isFresh(folder, host) {
				return nil
			}
			p.instanceFile = instance
			return p.rejoin(c.Context(), folder, pool)
		},
	}
	c.Flags().StringVar(&host, "for", "", "name of the pool for ssh")
	c.Flags().StringVar(&instance, "instance", "", "file that describes the instance")
	return c
}

// rejoin comes into the live session in a pool. Where there is none, it asks a person at the
// terminal whether to start one, and nobody else. What is wrong it also tells the door, which
// ssh starts next.
func (p *Program) rejoin(ctx context.Context, folder sshFolder, pool string) error {
	session, err := p.enter(ctx, stay{pool: pool, intent: wire.IntentRejoin})
	if err == nil {
		return checkSSH(session)
	}
	why := message(err)
	if isEnded(err) {
		var another bool
		if another, err = p.askForAnother(err); another {
			session, err = p.enter(ctx, stay{pool: pool, intent: wire.IntentOpen})
			if err == nil {
				return checkSSH(session)
			}
			why = message(err)
		}
	}
	if failed := folder.close(hostName(pool), why); failed != nil {
		return errors.Join(err, failed)
	}
	return err
}

// askForAnother asks a person at the terminal whether to start another session, if there is
// one. The error is what is still to be said.
func (p *Program) askForAnother(ended error) (bool, error) {
	if p.isEditor() || p.OpenTTY == nil {
		return false, ended
	}
	terminal, err := p.OpenTTY()
	if err != nil {
		return false, ended // nobody is there
	}
	defer terminal.Close()
	asking := *p
	asking.In, asking.Err, asking.answers = terminal, terminal, nil
	asking.Say("%s", p.localTimes(message(ended)))
	answer, err := asking.Ask("Start another one? [Y/n]")
	answer = strings.ToLower(answer)
	if err == nil && (answer == "" || answer == "y" || answer == "yes") {
		return true, nil
	}
	return false, &Exit{Code: codeFailure}
}

// editorVariables are set where an editor has started this program, which asks again and
// again by itself.
var editorVariables = []string{"VSCODE_PID", "VSCODE_IPC_HOOK", "VSCODE_IPC_HOOK_CLI", "VSCODE_CWD", "VSCODE_NLS_CONFIG",
	"VSCODE_GIT_IPC_HANDLE", "IDEA_INITIAL_DIRECTORY", "JETBRAINS_IDE"}

func (p *Program) isEditor() bool {
	return p.Getenv("TERM_PROGRAM") == "vscode" || strings.HasPrefix(p.Getenv("TERMINAL_EMULATOR"), "JetBrains") ||
		slices.ContainsFunc(editorVariables, func(name string) bool { return p.Getenv(name) != "" })
}
