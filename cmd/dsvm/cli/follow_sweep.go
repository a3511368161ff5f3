package cli

import (
	"context"
	"fmt"
	"time"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

const (
	// sweepLineEvery is how often a line says how far a sweep has come, where that is no
	// terminal: a file of a night's sweep stays readable.
	sweepLineEvery = 10 * time.Second
	// shownMembers is how many members that failed are shown at the end of a sweep.
	shownMembers = 3
	// memberLines is how many of the last lines of each of them are shown.
	memberLines = 5
)

// followSweep says how far a sweep has come until it ends, and shows then what members
// that failed wrote last. It returns the sweep as it has ended.
func (p *Program) followSweep(ctx context.Context, s *session, id string) (wire.Job, error) {
	line := &countLine{p: p, begin: time.Now()}
	defer line.end()
	for {
		j, err := look(ctx, s, id)
		if err != nil {
			return j, err
		}
		if err := line.show(j); err != nil {
			return j, &outputError{err}
		}
		if j.State.Final() {
			line.end()
			return j, p.showFailures(ctx, s, j)
		}
		if err := pause(ctx, lookEvery); err != nil {
			return j, err
		}
	}
}

// countLine says on standard error how far a sweep has come: on a terminal in one line
// that is renewed, else in a line now and then.
type countLine struct {
	p     *Program
	begin time.Time
	at    time.Time // of the last line
	text  string    // of the last line
	state job.State // in the last line
}

func (l *countLine) show(j wire.Job) error {
	text := sweepCounts(j)
	if text == l.text {
		return nil
	}
	if l.p.ErrWidth > 0 {
		l.text = text
		l.p.renewing.Store(true)
		_, err := fmt.Fprint(l.p.Err, "\r"+cut(text, max(l.p.ErrWidth-1, leastLast))+eraseLine)
		return err
	}
	now := time.Now()
	soon := now.Sub(l.begin) < progressAfter || j.State == l.state && now.Sub(l.at) < sweepLineEvery
	if soon && !j.State.Final() {
		return nil
	}
	l.text, l.at, l.state = text, now, j.State
	_, err := fmt.Fprintln(l.p.Err, text)
	return err
}

// end ends a line that is renewed.
func (l *countLine) end() {
	if l.p.renewing.CompareAndSwap(true, false) {
		fmt.Fprintln(l.p.Err)
	}
}

// eraseLine erases a terminal's line from the cursor on.
const eraseLine = "\x1b[K"

// sweepCounts is how far a sweep has come, in one line.
func sweepCounts(j wire.Job) string {
	text := fmt.Sprintf("dsvm: sweep %s is %s", j.ID, people(string(j.State)))
	if w := j.Sweep; w != nil {
		ended := w.Succeeded + w.Failed + w.TimedOut + w.Cancelled
		text += fmt.Sprintf(": %d of %d members have ended, %d running, %d failed", ended, w.Members, w.Running, w.Failed+w.TimedOut)
	}
	if !j.State.Final() && j.Reason != "" {
		text += "; " + plain(j.Reason)
	}
	return text
}

// showFailures shows on standard error what the members of a sweep that failed wrote last.
func (p *Program) showFailures(ctx context.Context, s *session, j wire.Job) error {
	bad := 0
	if j.Sweep != nil {
		bad = j.Sweep.Failed + j.Sweep.TimedOut
	}
	if bad == 0 {
		return nil
	}
	members, err := s.Jobs(ctx, client.JobFilter{Sweep: j.ID, States: []job.State{job.Failed, job.TimedOut}}, shownMembers)
	if err != nil {
		return err
	}
	for _, m := range members {
		text := people(string(m.State))
		if m.Reason != "" {
			text += ": " + plain(m.Reason)
		}
		fmt.Fprintf(p.Err, "%s is %s\n", m.ID, text)
		last := readLastLines(ctx, s, m, memberLines)
		if err := last.write(p.Err, "  "); err != nil {
			return &outputError{err}
		}
	}
	if more := bad - len(members); more > 0 {
		p.Say("%d more have failed; `dsvm job list --sweep %s --state failed,timedOut` lists them", more, j.ID)
	}
	return nil
}
