package service

import (
	"context"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/sshca"
	"dsvmpools/shared/wire"
)

// doorStaysOpen is how long the door of a node waits for who has just been given a certificate,
// and how long it stays open after the last connection. A listener at the relay is billed by the
// hour.
const doorStaysOpen = 5 * time.Minute

// Certificate signs a certificate for SSH that lets in to the running attempt of a job, on the
// node of a rank, and has that node open its door for some minutes. The caller is a person; who
// may change the job is for who calls this.
func (s *Jobs) Certificate(ctx context.Context, id, publicKey string, rank int) (wire.SessionCertificate, error) {
	var none wire.SessionCertificate
	c, err := person(ctx)
	if err != nil {
		return none, err
	}
	if s.doors == nil {
		return none, errNoDoors()
	}
	j, err := s.Job(ctx, id)
	if err != nil {
		return none, err
	}
	n, vmid, err := assignmentOf(j, rank)
	if err != nil {
		return none, err
	}
	if _, _, err := s.enterable(ctx, j, vmid); err != nil {
		return none, err
	}
	entry := protocol.EntryOfAttempt(j.ID, n)
	cert, err := s.doors.ca.Sign(ctx, sshca.Login{PublicKey: publicKey, User: c.Name, For: entry, At: s.now()})
	if err != nil {
		return none, err
	}
	if err := driveIfThere(ctx, s.driver, j.Spec.Pool, pool.Enter{Order: j.Order, N: n, For: doorStaysOpen}); err != nil {
		return none, err
	}
	head, node, err := s.enterable(ctx, j, vmid) // it has a place at the relay now
	if err != nil {
		return none, err
	}
	out := entryAnswer(cert, c.Name, node)
	if out.Doors = s.doors.relayWays(&head, node, entry); len(out.Doors) == 0 {
		return none, noPlace("id", node)
	}
	return out, nil
}

// noPlace is the error of a node that nobody can come to now. Jobs and nodes are entered by the relay
// alone, whatever ways sessions have: their door does not listen by TCP.
func noPlace(field string, node *pool.Node) error {
	return fault.New(fault.Conflict, field, "node %q has no place at the relay now, by which alone people come in to jobs and nodes; "+
		"try again in a minute", node.Name)
}

// entryAnswer is what a client needs to come to a node under wire.EntryHost, without the ways there.
func entryAnswer(cert sshca.Certificate, user string, node *pool.Node) wire.SessionCertificate {
	out := wire.SessionCertificate{Certificate: cert.Line, ValidBefore: cert.ValidBefore, Principal: cert.Principal, User: user,
		KnownHosts: make([]string, len(node.HostKeys))}
	for i, key := range node.HostKeys {
		out.KnownHosts[i] = wire.EntryHost + " " + strings.TrimSpace(key)
	}
	return out
}

// assignmentOf is the assignment of a rank of a running job, and where it is.
func assignmentOf(j *pool.Job, rank int) (n int64, vmid string, err error) {
	switch {
	case j.Session != nil:
		return 0, "", fault.New(fault.Conflict, "id",
			"%q is a session of a person, and no job; its owner comes in with `dsvm ssh %s`", j.ID, j.Spec.Pool)
	case j.State.Final():
		return 0, "", fault.New(fault.Conflict, "id",
			"job %q has ended as %s, and nothing of it runs any more; `dsvm job logs %s` shows what it wrote",
			j.ID, j.State, j.ID)
	case j.Spec.Sweep != nil:
		return 0, "", fault.New(fault.Conflict, "id", "job %q is a sweep; name one of its members: `dsvm job show %s` lists them", j.ID, j.ID)
	case j.State != job.Running || j.Current() == nil:
		return 0, "", fault.New(fault.Conflict, "id", "job %q does not run yet, it is %s; `dsvm job explain %s` says why", j.ID, j.State, j.ID)
	}
	ranks := j.Current().Ranks
	if len(ranks) == 0 && rank == 0 {
		return j.N, j.VMID, nil
	}
	i := slices.IndexFunc(ranks, func(r job.Rank) bool { return r.Rank == rank })
	if i < 0 {
		nodes := max(len(ranks), 1)
		if nodes == 1 {
			return 0, "", fault.New(fault.Invalid, "rank", "job %q runs on one node, whose `rank` is 0; leave it out", j.ID)
		}
		return 0, "", fault.New(fault.Invalid, "rank", "job %q runs on %d nodes; `rank` is a number from 0 to %d", j.ID, nodes, nodes-1)
	}
	return ranks[i].N, ranks[i].VMID, nil
}

// enterable is the node of an attempt, with the head of its pool, if people can come to it.
func (s *Jobs) enterable(ctx context.Context, j *pool.Job, vmid string) (pool.Head, *pool.Node, error) {
	head, nodes, _, err := s.driver.Nodes(ctx, j.Spec.Pool)
	if err != nil {
		return head, nil, err
	}
	i := slices.IndexFunc(nodes, func(n *pool.Node) bool { return n.VMID == vmid })
	switch {
	case i < 0 || !letsIn(nodes[i]):
		return head, nil, fault.New(fault.Conflict, "id", "the node of job %q is lost; `dsvm job show %s` says how it goes on", j.ID, j.ID)
	case !slices.Contains(nodes[i].Features, protocol.FeatureExec) || len(nodes[i].HostKeys) == 0:
		return head, nil, fault.New(fault.Conflict, "id", "the agent of node %q is of an older release, which lets nobody in to jobs; "+
			"after `dsvm upgrade`, jobs on new nodes can be entered", nodes[i].Name)
	}
	return head, nodes[i], nil
}
