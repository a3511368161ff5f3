package scheduler

import (
	"encoding/binary"
	"reflect"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// A row takes a kilobyte of memory, and most jobs of a long line differ from each other in
// their ids and a few words. So a job that is in line is packed from the next step on: what
// it has alone is one short string, and the rest is one row for all jobs that are alike. The
// row comes back when the job leaves the line, when it is first in it, or when it is changed.
//
// Of a packed job Order and ID can be read, and of its row what is not in alone: all that the
// line and a shape depend on, but for the command, see shapeOf. Nothing of it may be changed
// before State.open. Whoever shows a row takes it by Job.row.

// packer packs the jobs of a state.
type packer struct {
	alike  map[likeness][]*pool.Job // what packed jobs have in common; never changed
	count  int                      // of the rows in alike
	buffer []byte
}

// likeness is what jobs are compared by first.
type likeness struct {
	state                 job.State
	reason                string
	bundled               bool
	pool, team, user, dir string
	resources             job.Resources
	priority              job.Priority
	timeout               job.Duration
	nodes                 int
}

const (
	// mostAlike bounds what is kept to compare with. Where jobs are so different, packing
	// gains nothing; the packed ones keep their rows in common.
	mostAlike = 1_000
	// mostCompared bounds how many rows one job is compared with.
	mostCompared = 8
	longScript   = 256 // bytes
)

// pack packs the jobs that came into line, and are still there. A driver has committed their
// rows by then.
func (s *State) pack() {
	for _, j := range s.line.entered {
		if j.inLine() != nil && j.isPackable() {
			s.packJob(j)
		}
	}
	s.line.entered = nil
}

// isPackable reports whether others may be like the job, and nothing of it is lost.
func (j *Job) isPackable() bool {
	at := j.SubmittedAt
	return j.alone == "" && j.Attempts == nil && j.Progress == nil && j.Session == nil && j.Subscribers == nil && j.Waits == nil &&
		j.Cancel == "" && j.Spec.Sweep == nil && j.Spec.Index == nil && j.Spec.ID == j.ID &&
		at.Location() == time.UTC && at.Equal(time.Unix(0, at.UnixNano()))
}

// packJob packs a job.
func (s *State) packJob(j *Job) {
	s.packer.pack(j)
	s.addJob(j)
}

// pack packs a job. The keys of the maps are parts of the string, too.
func (p *packer) pack(j *Job) {
	row := j.Job
	b := append(append(p.buffer[:0], row.Order...), row.ID...)
	b = binary.LittleEndian.AppendUint64(b, uint64(row.SubmittedAt.UnixNano()))
	b = appendText(b, row.Spec.Name)
	b = appendText(b, ownScript(row.Spec.Script))
	b = appendTexts(appendTexts(b, row.Spec.Command), row.Spec.Args)
	b = appendPairs(appendPairs(b, row.Spec.Env), row.Spec.Labels)
	p.buffer = b
	all, order, id := string(b), len(row.Order), len(row.Order)+len(row.ID)
	j.Job = p.common(row)
	j.Order, j.ID, j.alone = all[:order], all[order:id], all[id:]
}

// common is a row with what a job has in common with others.
func (p *packer) common(row *pool.Job) *pool.Job {
	c := *row
	c.Order, c.ID, c.SubmittedAt = "", "", time.Time{}
	s := &c.Spec
	s.ID, s.Name, s.Command, s.Args, s.Env, s.Labels = "", "", nil, nil, nil, nil
	if ownScript(s.Script) != "" {
		s.Script = ""
	}
	key := likeness{c.State, c.Reason, c.Bundled, s.Pool, s.Team, s.User, s.Workdir, s.Resources, s.Priority, s.Timeout, s.Nodes}
	known := p.alike[key]
	for _, other := range known {
		if reflect.DeepEqual(other, &c) {
			return other
		}
	}
	if p.count >= mostAlike || p.alike == nil {
		p.alike, p.count, known = map[likeness][]*pool.Job{}, 0, nil
	}
	if len(known) >= mostCompared {
		known = known[1:]
	}
	p.alike[key] = append(known, &c)
	p.count++
	return &c
}

// row is the job's row. That of a packed job is a copy: changes of it are lost.
func (j *Job) row() *pool.Job {
	if j.alone == "" {
		return j.Job
	}
	row, left := *j.Job, j.alone
	row.Order, row.ID = j.Order, j.ID
	row.SubmittedAt = time.Unix(0, int64(binary.LittleEndian.Uint64([]byte(left[:8])))).UTC()
	s := &row.Spec
	s.ID = j.ID
	s.Name, left = cutText(left[8:])
	if script, after := cutText(left); script != "" {
		s.Script, left = script, after
	} else {
		left = after
	}
	s.Command, left = cutTexts(left)
	s.Args, left = cutTexts(left)
	s.Env, left = cutPairs(left)
	s.Labels, _ = cutPairs(left)
	return &row
}

// ownScript is a script that a packed job has alone; "" = it has it in common with others, as
// long ones are.
func ownScript(script string) string {
	if len(script) > longScript {
		return ""
	}
	return script
}

// unpack gives a job its row back.
func (j *Job) unpack() { j.Job, j.alone = j.row(), "" }

// open makes a job one that can be changed. If it stays in line, it is packed again.
func (s *State) open(j *Job) {
	if j.alone != "" {
		j.unpack()
		s.line.entered = append(s.line.entered, j)
	}
}

// The parts of Job.alone: a text after its length, a list of texts and pairs after their
// number and 1; 0 is nil.

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendTexts(b []byte, texts []string) []byte {
	if texts == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(texts))+1)
	for _, text := range texts {
		b = appendText(b, text)
	}
	return b
}

func appendPairs(b []byte, pairs map[string]string) []byte {
	if pairs == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(pairs))+1)
	for name, text := range pairs {
		b = appendText(appendText(b, name), text)
	}
	return b
}

func cutNumber(s string) (n int, left string) {
	for shift := 0; ; shift += 7 {
		c := s[0]
		n, s = n|int(c&0x7f)<<shift, s[1:]
		if c < 0x80 {
			return n, s
		}
	}
}

func cutText(s string) (text, left string) {
	n, s := cutNumber(s)
	return s[:n], s[n:]
}

func cutTexts(s string) (texts []string, left string) {
	n, s := cutNumber(s)
	if n == 0 {
		return nil, s
	}
	texts = make([]string, n-1)
	for i := range texts {
		texts[i], s = cutText(s)
	}
	return texts, s
}

func cutPairs(s string) (pairs map[string]string, left string) {
	n, s := cutNumber(s)
	if n == 0 {
		return nil, s
	}
	pairs = make(map[string]string, n-1)
	for range n - 1 {
		var name string
		name, s = cutText(s)
		pairs[name], s = cutText(s)
	}
	return pairs, s
}
