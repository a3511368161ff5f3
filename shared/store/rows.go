package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// maxAttempts is how many attempts of a job its row keeps, the latest ones: a
// job that is retried for ever must not outgrow its row.
const maxAttempts = 100

// compact writes a value as JSON without escapes that only web pages need.
func compact(v any) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", wrap(fault.Invalid, err, "a row cannot be written")
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// fingerprint tells specs apart without carrying them around.
func fingerprint(spec string) string {
	sum := sha256.Sum256([]byte(spec))
	return hex.EncodeToString(sum[:16])
}

// encodeHead writes the head, with its spec only when that is given: a merge
// leaves it as it was.
func encodeHead(partition string, h *pool.Head, fingerprint, spec string) ([]byte, error) {
	e := newEntity(partition, pool.HeadKey)
	e.full = true
	e.int64("Seq", h.Seq)
	e.text("Nonce", h.Nonce)
	e.text("SpecHash", fingerprint)
	e.bool("Deleting", h.Deleting)
	e.int64("N", h.N)
	sets, err := encodeSets(h.Sets)
	if err != nil {
		return nil, err
	}
	e.text("Sets", sets)
	e.time("DownSince", h.DownSince)
	e.time("WakeAt", h.WakeAt)
	e.time("RecordAt", h.RecordAt)
	e.bool("Down", h.Down)
	kept := ""
	if len(h.Shares) > 0 {
		shares, err := compact(h.Shares)
		if err != nil {
			return nil, err
		}
		if len(shares) <= chunkUnits { // hundreds of teams; with more, all begin anew
			kept = shares
		}
	}
	e.text("Shares", kept)
	e.int("Queued", h.Queued)
	e.int("Running", h.Running)
	e.int("Wanted", h.Wanted)
	if !e.long("Spec", spec) {
		return nil, fault.New(fault.Invalid, "", "the spec of pool %s is too long to be kept", partition)
	}
	return e.end(), nil
}

// encodeSets writes the scale sets, with sentences that leave room for all of them.
func encodeSets(sets []pool.Set) (string, error) {
	if len(sets) == 0 {
		return "", nil
	}
	sets = slices.Clone(sets)
	for i := range sets {
		sets[i].Blocked.Message = cut(sets[i].Blocked.Message, reasonUnits)
		sets[i].Breaker.Why = cut(sets[i].Breaker.Why, reasonUnits)
	}
	text, err := compact(sets)
	for i := 0; err == nil && len(text) > chunkUnits && i < len(sets); i++ {
		sets[i].Op.Under = nil // what came of it the listing tells
		text, err = compact(sets)
	}
	if err == nil && len(text) > chunkUnits {
		err = fault.New(fault.Invalid, "", "what is known of %d scale sets is too long to be kept; name fewer `sizes`", len(sets))
	}
	return text, err
}

func encodeNode(partition, key string, n *pool.Node) []byte {
	e := newEntity(partition, key)
	e.text("VMID", n.VMID)
	e.text("InstanceID", n.InstanceID)
	e.text("Name", n.Name)
	e.text("Set", n.Set)
	e.text("Size", n.Size)
	e.bool("Spot", n.Spot)
	e.int("CPUs", n.CPUs)
	e.int("GPUs", n.GPUs)
	e.int64("Memory", int64(n.Memory))
	e.text("State", string(n.State))
	e.sentence("Reason", n.Reason)
	e.time("Since", n.Since)
	e.time("AskedAt", n.AskedAt)
	e.time("CreatedAt", n.CreatedAt)
	e.time("RunningAt", n.RunningAt)
	e.time("HeardAt", n.HeardAt)
	e.time("MissingAt", n.MissingAt)
	e.time("DeleteAt", n.DeleteAt)
	e.bool("Evicted", n.Evicted)
	e.int("Breaks", n.Breaks)
	if len(n.Blames) > 0 {
		if blames, err := compact(n.Blames); err == nil && len(blames) <= chunkUnits { // pool.maxBlames of them are far shorter
			e.text("Blames", blames)
		}
	}
	e.text("Boot", n.Boot)
	e.time("RestartAt", n.RestartAt)
	e.time("BootAt", n.BootAt)
	e.text("Address", n.Address)
	e.int64("Seen", n.Seen)
	e.text("Price", n.Price)
	e.text("Currency", n.Currency)
	e.time("From", n.From)
	e.time("Mark", n.Mark)
	e.int64("BootFor", int64(n.BootFor))
	e.int64("BusyFor", int64(n.BusyFor))
	e.int64("IdleFor", int64(n.IdleFor))
	e.int64("DrainFor", int64(n.DrainFor))
	return e.end()
}

func encodeJob(partition, key string, j *pool.Job) ([]byte, error) {
	spec, err := compact(&j.Spec)
	if err != nil {
		return nil, err
	}
	e := newEntity(partition, key)
	e.text("Order", j.Order)
	e.text("ID", j.ID)
	e.text("Team", j.Spec.Team) // once more beside the spec, to filter lists by
	e.text("User", j.Spec.User)
	e.text("Kind", kindOf(j))
	e.text("State", string(j.State))
	e.sentence("Reason", j.Reason)
	e.time("SubmittedAt", j.SubmittedAt)
	e.time("NotBefore", j.NotBefore)
	if len(j.Waits) > 0 {
		waits, err := compact(j.Waits)
		if err != nil {
			return nil, err
		}
		e.text("Waits", waits)
	}
	e.sentence("Cancel", j.Cancel)
	e.time("CancelAt", j.CancelAt)
	e.bool("Requeue", j.Requeue)
	e.int("Retries", j.Retries)
	if j.Progress != nil {
		progress, err := compact(j.Progress)
		if err != nil {
			return nil, err
		}
		e.text("Progress", progress)
	}
	e.text("VMID", j.VMID)
	e.int64("N", j.N)
	e.int("ExitCode", j.ExitCode)
	e.time("EndedAt", j.EndedAt)
	if !e.long("Spec", spec) {
		return nil, fault.New(fault.Invalid, "", "the document of job %s is too long to be kept; put long scripts and lists into files", j.ID)
	}
	if err := e.attempts(j); err != nil {
		return nil, err
	}
	return e.end(), nil
}

// Kinds of jobs' rows.
const (
	kindJob    = "job"
	kindSweep  = "sweep"
	kindMember = "member"
)

func kindOf(j *pool.Job) string {
	switch {
	case j.Spec.Sweep != nil:
		return kindSweep
	case j.Spec.Index != nil:
		return kindMember
	}
	return kindJob
}

// attempts writes as many of the latest attempts as there is room for.
func (e *entity) attempts(j *pool.Job) error {
	if len(j.Attempts) == 0 {
		return nil
	}
	latest := j.Attempts[max(len(j.Attempts)-maxAttempts, 0):]
	for i := range latest {
		if short := cut(latest[i].Reason, reasonUnits); len(short) < len(latest[i].Reason) {
			latest = append([]job.Attempt(nil), latest...)
			latest[i].Reason = short
		}
	}
	for ; ; latest = latest[(len(latest)+1)/2:] {
		text, err := compact(latest)
		if err != nil {
			return err
		}
		before := len(e.b)
		if e.long("Attempts", text) {
			return nil
		}
		e.b = e.b[:before]
	}
}

// encodeLog writes facts for the ledger. Labels go first when there is no
// room: a report may miss them, money may not be missed.
func encodeLog(partition, key string, l *pool.Log) ([]byte, error) {
	e := newEntity(partition, key)
	e.int64("Seq", l.Seq)
	before := len(e.b)
	text, err := compact(l.Entries)
	if err != nil {
		return nil, err
	}
	if e.long("Entries", text) {
		return e.end(), nil
	}
	bare := append([]usage.Entry(nil), l.Entries...)
	for i := range bare {
		bare[i].Labels = nil
	}
	if text, err = compact(bare); err != nil {
		return nil, err
	}
	if e.b = e.b[:before]; !e.long("Entries", text) {
		return nil, fault.New(fault.Invalid, "", "%d entries for the ledger are too long for one row; split the transaction", len(bare))
	}
	return e.end(), nil
}

// number reads Edm.Int32 and Edm.Int64 alike: an exit code of Windows does not
// fit into the first.
type number int64

func (n *number) UnmarshalJSON(data []byte) error {
	i, err := strconv.ParseInt(string(bytes.Trim(data, `"`)), 10, 64)
	*n = number(i)
	return err
}

// Long texts as they are read.
type (
	longSpec     struct{ Spec, Spec1, Spec2, Spec3, Spec4, Spec5, Spec6, Spec7 string }
	longAttempts struct {
		Attempts, Attempts1, Attempts2, Attempts3, Attempts4, Attempts5, Attempts6, Attempts7 string
	}
	longEntries struct {
		Entries, Entries1, Entries2, Entries3, Entries4, Entries5, Entries6, Entries7 string
	}
)

func (l *longSpec) text() string {
	return l.Spec + l.Spec1 + l.Spec2 + l.Spec3 + l.Spec4 + l.Spec5 + l.Spec6 + l.Spec7
}

func (l *longAttempts) text() string {
	return l.Attempts + l.Attempts1 + l.Attempts2 + l.Attempts3 + l.Attempts4 + l.Attempts5 + l.Attempts6 + l.Attempts7
}

func (l *longEntries) text() string {
	return l.Entries + l.Entries1 + l.Entries2 + l.Entries3 + l.Entries4 + l.Entries5 + l.Entries6 + l.Entries7
}

// decode reads a row, and tells which one could not be read.
func decode(raw []byte, row any) error {
	if err := json.Unmarshal(raw, row); err != nil {
		return damaged(raw, err)
	}
	return nil
}

func damaged(raw []byte, cause error) error {
	var keys struct{ PartitionKey, RowKey string }
	_ = json.Unmarshal(raw, &keys) // the keys are for the message only
	return wrap(fault.Internal, cause, "row %q of partition %q cannot be read", keys.RowKey, keys.PartitionKey)
}

// decodeHead reads the head and which version it is; an ETag that the row does
// not carry stays empty.
func decodeHead(raw []byte) (pool.Head, pool.Version, error) {
	var row struct {
		versionRow
		Deleting, Down              bool
		N, Queued, Running, Wanted  number
		DownSince, WakeAt, RecordAt time.Time
		Sets, Shares                string
		longSpec
	}
	if err := decode(raw, &row); err != nil {
		return pool.Head{}, pool.Version{}, err
	}
	h := pool.Head{
		Seq: int64(row.Seq), Nonce: row.Nonce, Deleting: row.Deleting, N: int64(row.N),
		DownSince: when(row.DownSince), Down: row.Down, WakeAt: when(row.WakeAt), RecordAt: when(row.RecordAt),
		Queued: int(row.Queued), Running: int(row.Running), Wanted: int(row.Wanted),
	}
	if err := json.Unmarshal([]byte(row.longSpec.text()), &h.Spec); err != nil {
		return pool.Head{}, pool.Version{}, damaged(raw, fmt.Errorf("its spec: %w", err))
	}
	if row.Sets != "" {
		if err := json.Unmarshal([]byte(row.Sets), &h.Sets); err != nil {
			return pool.Head{}, pool.Version{}, damaged(raw, fmt.Errorf("its scale sets: %w", err))
		}
	}
	if row.Shares != "" {
		if err := json.Unmarshal([]byte(row.Shares), &h.Shares); err != nil {
			return pool.Head{}, pool.Version{}, damaged(raw, fmt.Errorf("its shares: %w", err))
		}
	}
	return h, row.version(), nil
}

func decodeNode(raw []byte) (*pool.Node, error) {
	var row struct {
		VMID, InstanceID, Name, Set, Size, State, Reason, Boot, Address, Price, Currency string
		Blames                                                                           string
		Breaks, CPUs, GPUs, Memory, Seen, BootFor, BusyFor, IdleFor, DrainFor            number
		Evicted, Spot                                                                    bool
		Since, AskedAt, CreatedAt, RunningAt, HeardAt, MissingAt, DeleteAt, From, Mark   time.Time
		RestartAt, BootAt                                                                time.Time
	}
	if err := decode(raw, &row); err != nil {
		return nil, err
	}
	n := &pool.Node{
		VMID: row.VMID, InstanceID: row.InstanceID, Name: row.Name, Set: row.Set, Size: row.Size, Spot: row.Spot, CPUs: int(row.CPUs), GPUs: int(row.GPUs), Memory: job.Bytes(row.Memory),
		State: pool.NodeState(row.State), Reason: row.Reason, Since: row.Since, AskedAt: row.AskedAt, CreatedAt: row.CreatedAt,
		RunningAt: row.RunningAt, HeardAt: row.HeardAt, MissingAt: row.MissingAt, DeleteAt: row.DeleteAt, Evicted: row.Evicted, Breaks: int(row.Breaks),
		Boot: row.Boot, RestartAt: row.RestartAt, BootAt: row.BootAt, Address: row.Address, Seen: int64(row.Seen), Price: row.Price, Currency: row.Currency,
		From: row.From, Mark: row.Mark,
		BootFor: time.Duration(row.BootFor), BusyFor: time.Duration(row.BusyFor),
		IdleFor: time.Duration(row.IdleFor), DrainFor: time.Duration(row.DrainFor),
	}
	if row.Blames != "" {
		if err := json.Unmarshal([]byte(row.Blames), &n.Blames); err != nil {
			return nil, damaged(raw, fmt.Errorf("what stands against it: %w", err))
		}
	}
	return n, nil
}

func decodeJob(raw []byte) (*pool.Job, error) {
	var row struct {
		Order, ID, State, Reason, Waits, Cancel, VMID, Progress string
		SubmittedAt, NotBefore, CancelAt, EndedAt               time.Time
		Requeue                                                 bool
		Retries, N, ExitCode                                    number
		longSpec
		longAttempts
	}
	if err := decode(raw, &row); err != nil {
		return nil, err
	}
	j := &pool.Job{
		Order: row.Order, ID: row.ID, State: job.State(row.State), Reason: row.Reason,
		SubmittedAt: row.SubmittedAt, NotBefore: row.NotBefore, Cancel: row.Cancel, CancelAt: row.CancelAt,
		Requeue: row.Requeue, Retries: int(row.Retries), VMID: row.VMID, N: int64(row.N),
		ExitCode: int(row.ExitCode), EndedAt: row.EndedAt,
	}
	if err := json.Unmarshal([]byte(row.longSpec.text()), &j.Spec); err != nil {
		return nil, damaged(raw, fmt.Errorf("its spec: %w", err))
	}
	if row.Waits != "" {
		if err := json.Unmarshal([]byte(row.Waits), &j.Waits); err != nil {
			return nil, damaged(raw, fmt.Errorf("what it waits for: %w", err))
		}
	}
	if row.Progress != "" {
		if err := json.Unmarshal([]byte(row.Progress), &j.Progress); err != nil {
			return nil, damaged(raw, fmt.Errorf("its progress: %w", err))
		}
	}
	if attempts := row.longAttempts.text(); attempts != "" {
		if err := json.Unmarshal([]byte(attempts), &j.Attempts); err != nil {
			return nil, damaged(raw, fmt.Errorf("its attempts: %w", err))
		}
	}
	return j, nil
}

func decodeLog(raw []byte) (*pool.Log, error) {
	var row struct {
		Seq number
		longEntries
	}
	if err := decode(raw, &row); err != nil {
		return nil, err
	}
	l := &pool.Log{Seq: int64(row.Seq)}
	if err := json.Unmarshal([]byte(row.text()), &l.Entries); err != nil {
		return nil, damaged(raw, fmt.Errorf("its entries: %w", err))
	}
	return l, nil
}
