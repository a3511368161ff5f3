package backoff

import (
	"sync"
	"time"
)

// Numbers of a Pace. The services it is for (Service Bus, Table Storage) count by the
// second.
const (
	// firstCut is the part of the rate that a refusal takes away. What is refused is little as
	// long as requests come evenly, so a small cut is enough. A refusal long before the rate
	// has recovered from the one before shows that it was not: each takes twice as much, up to
	// lastCut.
	firstCut = 0.05
	lastCut  = 0.3
	// A rate is what it was at the refusal after firstRecovery. From there it rises slowly
	// at first, and then faster and faster: 5 % more after twice the time, seven times as
	// much after six times. A refusal that comes near the same rate confirms that there is
	// a limit, and doubles the time, up to lastRecovery. So a limit that stays is met
	// seldom, and a refusal that had another cause is soon forgotten.
	firstRecovery = 2 * time.Second
	lastRecovery  = 16 * time.Second
	// near is how far above the last refusal the next one may come to confirm a limit, as a
	// part of the rate.
	near = 0.25
	// forget is how many recoveries after the last refusal there is no limit any more.
	forget = 10
	// overload is how long after a refusal further ones are part of the same overload.
	overload = time.Second
	// maxWait bounds how long Reserve has a request wait, whatever was counted before.
	maxWait = 5 * time.Second
)

// slots of a second in which a Pace counts.
const slots = 10

// Pace says how long to wait before a request to a service that has a limit for units per
// second (credits, entities) and refuses requests above it. Nobody has to know the limit:
// before the first refusal a Pace has no request wait; a refusal shows how much passed in
// the second before, and from then on requests go evenly at a little less than that. The
// rate recovers on a curve that is flat where the last refusal was, so that a service at
// its limit refuses few requests, and nearly all of the limit is used. Other processes may
// share the limit: each one slows down at its own refusals.
//
// A Pace never waits and reads no clock. It may be used concurrently. The zero Pace has
// no floor.
type Pace struct {
	// Floor is the rate that refusals cannot push below, in units per second, so that a
	// process does not starve because others use the whole limit. A refusal at a smaller
	// rate sets no limit: this process is not its cause.
	Floor float64

	mu       sync.Mutex
	mark     float64       // units per second at the last refusal; 0 = no limit
	cut      float64       // part of mark that is taken away
	recovery time.Duration // from the last refusal to the rate of mark
	refused  time.Time     // when that was
	next     time.Time     // when the next units may go
	passed   [slots]float64
	slot     int64 // of the newest count in passed, in tenths of a second
}

// Reserve takes n units for a request and returns how long the request has to wait.
func (p *Pace) Reserve(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take(now, n)
}

// Spend counts n units that are spent without waiting: requests of other programs that
// share the limit, and requests that must not wait. They delay later calls of Reserve.
func (p *Pace) Spend(now time.Time, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take(now, n)
}

// take counts n units and returns when they may go.
func (p *Pace) take(now time.Time, n int) time.Duration {
	p.turn(now)
	p.passed[p.slot%slots] += float64(n)
	rate := p.rate(now)
	if rate == 0 {
		return 0
	}
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(min(float64(n)/rate, maxWait.Seconds()) * float64(time.Second)))
	if latest := now.Add(maxWait); p.next.After(latest) {
		p.next = latest
	}
	return wait
}

// Refuse notes that the service refused a request of n units, which Reserve or Spend has
// counted. The caller waits as After says before it sends the request again.
func (p *Pace) Refuse(now time.Time, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	i := p.slot % slots
	p.passed[i] = max(p.passed[i]-float64(n), 0)
	rate := p.rate(now)
	switch {
	case rate > 0 && now.Sub(p.refused) < overload:
		return
	case rate == 0:
		for _, n := range p.passed {
			rate += n
		}
		if rate < p.Floor {
			return
		}
		p.cut, p.recovery, p.next = firstCut, firstRecovery, now
	case now.Sub(p.refused) < p.recovery/2:
		p.cut = min(2*p.cut, lastCut)
	case rate <= (1+near)*p.mark:
		p.cut, p.recovery = firstCut, min(2*p.recovery, lastRecovery)
	default:
		p.cut, p.recovery = firstCut, firstRecovery
	}
	p.mark, p.refused = max(rate, p.Floor/(1-p.cut), 1), now
}

// Rate returns the units per second that may go now; 0 = there is no limit.
func (p *Pace) Rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate(now)
}

// rate is the curve of the rate after a refusal.
func (p *Pace) rate(now time.Time) float64 {
	since := now.Sub(p.refused)
	if p.mark == 0 || since >= forget*p.recovery {
		return 0
	}
	x := since.Seconds()/p.recovery.Seconds() - 1
	return p.mark * (1 + p.cut*x*x*x)
}

// turn clears the counts that are older than a second, and all if the clock was set back.
func (p *Pace) turn(now time.Time) {
	slot := now.UnixNano() / int64(time.Second/slots)
	if slot < p.slot-slots {
		p.slot = slot - slots
	}
	for i := max(p.slot+1, slot-slots+1); i <= slot; i++ {
		p.passed[i%slots] = 0
	}
	p.slot = max(p.slot, slot)
}
