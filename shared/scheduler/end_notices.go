package scheduler

import (
	"slices"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// endNotices notifies other pools, in which jobs come after jobs of this one, when those
// have ended. A job's row remembers who subscribed to its end; see pool.Subscriber.
type endNotices struct{ *turn }

// addSubscriber remembers that a pool subscribes to the ends of jobs of this one. A job
// that is not live may have ended before: then the other pool is to look at once. It
// returns what there was no room for.
func (en *endNotices) addSubscriber(e pool.Subscribe) (left pool.Subscribe) {
	for i, id := range e.IDs {
		if !en.hasRoom() {
			return pool.Subscribe{IDs: e.IDs[i:], By: e.By}
		}
		j, member := en.rowOf(id)
		if j == nil {
			en.notify(e.By, id)
			continue
		}
		by := pool.Subscriber{Pool: e.By, Member: member}
		if len(j.Subscribers) < pool.MaxSubscribers && !slices.Contains(j.Subscribers, by) {
			en.open(j)
			j.Subscribers = append(slices.Clip(j.Subscribers), by)
			en.writeJob(j)
		}
	}
	return pool.Subscribe{}
}

// rowOf finds the live job on whose row a subscriber of a job is remembered: its own, or
// that of its sweep if it is a member that has not begun; see pool.Subscriber.Member.
func (en *endNotices) rowOf(id string) (j *Job, member int) {
	if j = en.Jobs.WithID(id); j != nil {
		return j, 0
	}
	sweep, index, ok := job.MemberOf(id)
	if !ok {
		return nil, 0
	}
	j = en.Jobs.WithID(sweep)
	if j == nil || j.Spec.Sweep == nil || j.Cancel != "" {
		return nil, 0
	}
	if index < j.Progress.Next || index >= j.Spec.Sweep.Members() || j.Progress.IsSkipped(index) {
		return nil, 0
	}
	return j, index + 1
}

// passToMember moves the subscribers of a member from the row of its sweep to its own.
func (en *endNotices) passToMember(of, m *Job, index int) {
	var left []pool.Subscriber
	for _, by := range of.Subscribers {
		if by.Member == index+1 {
			m.Subscribers = append(m.Subscribers, pool.Subscriber{Pool: by.Pool})
		} else {
			left = append(left, by)
		}
	}
	of.Subscribers = left
}

// notifyEnd notifies the subscribers of a job that has ended; of a sweep, also those of
// members of it that never began.
func (en *endNotices) notifyEnd(j *Job) {
	for _, by := range j.Subscribers {
		id := j.ID
		if by.Member > 0 {
			id = job.MemberID(j.ID, by.Member-1)
		}
		en.notify(by.Pool, id)
	}
}

func (en *endNotices) notify(other, id string) {
	if en.effects.Notify == nil {
		en.effects.Notify = map[string][]string{}
	}
	en.effects.Notify[other] = append(en.effects.Notify[other], id)
}
