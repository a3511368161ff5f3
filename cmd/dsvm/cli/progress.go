package cli

import (
	"fmt"
	"sync"
	"time"

	"dsvmpools/shared/wire"
)

// progressAfter is how long something may take without a word: as long as
// people wait without wondering.
const progressAfter = 2 * time.Second

// progress says on standard error what is going on, if it takes longer than
// people wait without wondering. The function it returns ends that, and returns
// when nothing more will be written.
func (p *Program) progress(what string) (stop func()) {
	if p.output == outputJSON {
		return func() {} // standard error is for a program, too
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-done:
		case <-time.After(progressAfter):
			p.Say("%s...", what)
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// story writes on standard error what is new about a job, once the job has lasted
// longer than people wait without wondering.
type story struct {
	p     *Program
	begin time.Time
	last  string // what was written last
}

func (p *Program) newStory() *story { return &story{p: p, begin: time.Now()} }

// writeNews writes what is new since the last call.
func (s *story) writeNews(j wire.Job) {
	now := fmt.Sprintf("job %s is %s", j.ID, people(string(j.State)))
	if w := sweepText(j); w != "" {
		now += ": " + w
	} else if j.Reason != "" {
		now += ": " + j.Reason
	}
	if now == s.last || time.Since(s.begin) < progressAfter || j.State.Final() {
		return
	}
	s.last = now
	s.p.Say("%s", now)
}
