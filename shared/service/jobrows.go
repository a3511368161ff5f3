package service

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

const (
	// mostExplained bounds the waiting jobs of a pool that one list explains: each takes a look at the
	// line.
	mostExplained = 25
	// mostCosts bounds the jobs whose cost a process remembers: that of an ended one never changes.
	mostCosts = 20_000
	// costsAtOnce bounds the jobs whose rows of the ledger are read side by side.
	costsAtOnce = 16
)

// knownCosts are what ended jobs have cost, by order.
type knownCosts struct {
	mu  sync.Mutex
	all map[string]*wire.Cost
}

func (k *knownCosts) find(order string) (cost *wire.Cost, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cost, known = k.all[order]
	return cost, known
}

func (k *knownCosts) keep(order string, cost *wire.Cost) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil || len(k.all) >= mostCosts {
		k.all = map[string]*wire.Cost{}
	}
	k.all[order] = cost
}

// Rows says why jobs of a list wait, and what they have cost, in their order. Of sweeps, which have
// no attempts, and of what is not kept there is no cost.
func (s *Jobs) Rows(ctx context.Context, jobs []*pool.Job) ([]wire.JobRow, error) {
	rows := make([]wire.JobRow, len(jobs))
	live := map[string][]int{} // places by pool
	c := costs{s.store, s.driver}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(costsAtOnce)
	for i, j := range jobs {
		switch {
		case j.Spec.Pool == "" || !wire.HasDocument(j):
		case !j.State.Final():
			live[j.Spec.Pool] = append(live[j.Spec.Pool], i)
		default:
			group.Go(func() (err error) {
				rows[i].Cost, err = s.endedCost(grouped, c, j)
				return err
			})
		}
	}
	for name, places := range live {
		group.Go(func() error {
			err := s.liveRows(grouped, c, name, jobs, places, rows)
			if fault.CodeOf(err) == fault.NotFound {
				return nil // the pool has gone
			}
			return err
		})
	}
	return rows, group.Wait()
}

// endedCost is what an ended job has cost. It is remembered; that nothing is known of it, only when its
// use cannot be on its way to the ledger any more.
func (s *Jobs) endedCost(ctx context.Context, c costs, j *pool.Job) (*wire.Cost, error) {
	if cost, known := s.costs.find(j.Order); known {
		return cost, nil
	}
	cost, err := c.endedCost(ctx, j)
	if err == nil && (cost != nil || s.now().Sub(j.EndedAt) > ledgerLate) {
		s.costs.keep(j.Order, cost)
	}
	return cost, err
}

// liveRows fills in the rows of live jobs of one pool.
func (s *Jobs) liveRows(ctx context.Context, c costs, name string, jobs []*pool.Job, places []int, rows []wire.JobRow) error {
	var waiting []string
	for _, i := range places {
		if len(waiting) < mostExplained && jobs[i].VMID == "" {
			waiting = append(waiting, jobs[i].Order)
		}
	}
	why, err := s.driver.ExplainAll(ctx, name, waiting)
	if err != nil {
		return err
	}
	open, err := c.open(ctx, name, s.now())
	if err != nil {
		return err
	}
	for _, i := range places {
		j := jobs[i]
		rows[i].Why = why[j.Order].Reason
		ended, err := c.ended(ctx, j)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			continue // a part of it is not kept: the rest is not what it costs
		case err != nil:
			return err
		}
		rows[i].Cost = costOf(append(ended, withoutEnded(open[j.Order], ended)...))
	}
	return nil
}
