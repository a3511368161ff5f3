package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// fingerprint is a short hash of a spec, by which specs are compared.
func fingerprint(spec string) string {
	sum := sha256.Sum256([]byte(spec))
	return hex.EncodeToString(sum[:16])
}

// rowFormat is the newest format of a pool's rows that this release reads. A release whose
// rows an earlier one would misread writes a higher number into the head. In format 2 live
// jobs may share rows, see bundle.go; in format 3 the head carries facts and what nodes are used
// for, see carried.go. A pool without all that is in format 1, so that it may go back to an earlier
// release. Rows of earlier releases do not say their format.
const (
	rowFormat     = formatCarried
	formatOfRows  = 1 // each job has a row of its own
	formatBundled = 2
	formatCarried = 3
)

// headRow is what a head's row has besides the head.
type headRow struct {
	pool.Version        // SpecHash, Carried and Index
	carries      bool   // something that earlier releases must not miss
	before       bool   // the row has the property Carried already
	spec         string // "": a merge does not change the spec in the row
}

// encodeHead writes the head.
func encodeHead(partition string, h *pool.Head, with headRow) ([]byte, error) {
	e := table.NewFullRow(partition, pool.HeadKey)
	e.Int64("Seq", h.Seq)
	format := formatOfRows
	switch {
	case with.carries:
		format = formatCarried
	case h.Bundled:
		format = formatBundled
	}
	e.Int("Format", format)
	e.Text("Nonce", h.Nonce)
	e.Text("SpecHash", with.SpecHash)
	if with.Index != "" { // as every transaction writes it
		e.Text("Index", storedIndex(h.Seq, with.Index))
	}
	e.Bool("Deleting", h.Deleting)
	e.Int64("N", h.N)
	sets, err := encodeSets(h.Sets)
	if err != nil {
		return nil, err
	}
	if with.carries { // a release that knows no formats takes this for damaged, and leaves the pool alone
		sets = `{"sets":` + cmp.Or(sets, "null") + `}`
	}
	e.Text("Sets", sets)
	if with.Carried != "" || with.before {
		e.Text("Carried", with.Carried)
	}
	e.Time("DownSince", h.DownSince)
	e.Time("WakeAt", h.WakeAt)
	e.Time("RecordAt", h.RecordAt)
	e.Bool("Down", h.Down)
	fits := ""
	if len(h.Shares) > 0 {
		shares, err := table.Compact(h.Shares)
		if err != nil {
			return nil, err
		}
		if len(shares) <= table.ChunkUnits { // hundreds of teams; with more, all start again from zero
			fits = shares
		}
	}
	e.Text("Shares", fits)
	opening := ""
	if h.Opening != (pool.Opening{}) {
		of := h.Opening
		of.Problem = table.Cut(of.Problem, table.SentenceUnits)
		if opening, err = table.Compact(of); err != nil {
			return nil, err
		}
	}
	if opening != "" || h.Spec.IsInteractive() { // also an empty one, since a merge would leave what is there
		e.Text("Opening", opening)
	}
	if h.Budgets.Seq != 0 || len(h.Budgets.Standings) > 0 { // from the first board on always, since a merge would leave what is there
		budgets, err := table.Compact(h.Budgets)
		if err != nil {
			return nil, err
		}
		if len(budgets) > budget.MaxBoard { // no board that the app sends is
			budgets, err = table.Compact(budget.Board{Seq: h.Budgets.Seq})
		}
		if err != nil {
			return nil, err
		}
		e.Text("Budgets", budgets)
	}
	e.Int("Queued", h.Queued)
	e.Int("Running", h.Running)
	e.Int("Wanted", h.Wanted)
	if !e.Long("Spec", with.spec) {
		return nil, fault.New(fault.Invalid, "", "the spec of pool %s is too long to be kept", partition)
	}
	return e.JSON(), nil
}

// encodeSets writes the scale sets, with sentences that leave room for all of them.
func encodeSets(sets []pool.Set) (string, error) {
	if len(sets) == 0 {
		return "", nil
	}
	sets = slices.Clone(sets)
	for i := range sets {
		sets[i].Blocked.Message = table.Cut(sets[i].Blocked.Message, table.SentenceUnits)
		sets[i].Breaker.Why = table.Cut(sets[i].Breaker.Why, table.SentenceUnits)
		sets[i].Model.Problem = table.Cut(sets[i].Model.Problem, table.SentenceUnits)
	}
	text, err := table.Compact(sets)
	for i := 0; err == nil && len(text) > table.ChunkUnits && i < len(sets); i++ {
		sets[i].Op.Under = nil // the next list of instances shows what came of it
		text, err = table.Compact(sets)
	}
	if err == nil && len(text) > table.ChunkUnits {
		err = fault.New(fault.Invalid, "", "what is known of %d scale sets is too long to be kept; name fewer `sizes`", len(sets))
	}
	return text, err
}

func encodeNode(partition, key string, n *pool.Node) []byte {
	e := table.NewRow(partition, key)
	e.Text("VMID", n.VMID)
	e.Text("InstanceID", n.InstanceID)
	e.Text("Name", n.Name)
	e.Text("Set", n.Set)
	e.Text("Size", n.Size)
	e.Bool("Spot", n.Spot)
	e.Int("CPUs", n.CPUs)
	e.Int("GPUs", n.GPUs)
	e.Int64("Memory", int64(n.Memory))
	e.Text("State", string(n.State))
	e.Sentence("Reason", n.Reason)
	e.Time("Since", n.Since)
	e.Time("AskedAt", n.AskedAt)
	e.Time("CreatedAt", n.CreatedAt)
	e.Time("RunningAt", n.RunningAt)
	e.Time("HeardAt", n.HeardAt)
	e.Time("MissingAt", n.MissingAt)
	e.Time("DeleteAt", n.DeleteAt)
	e.Bool("Evicted", n.Evicted)
	e.Int("Breaks", n.Breaks)
	if len(n.Blames) > 0 {
		// The scheduler keeps so few blames that they always fit.
		if blames, err := table.Compact(n.Blames); err == nil && len(blames) <= table.ChunkUnits {
			e.Text("Blames", blames)
		}
	}
	e.Text("Boot", n.Boot)
	e.Time("RestartAt", n.RestartAt)
	e.Time("BootAt", n.BootAt)
	e.Text("Address", n.Address)
	e.Int64("Seen", n.Seen)
	e.Bool("Outdated", n.Outdated)
	e.Time("OutdatedAt", n.OutdatedAt)
	e.Text("Stage", n.Stage)
	e.Sentence("StageWhy", n.StageWhy)
	e.Time("StageAt", n.StageAt)
	if len(n.Features) > 0 {
		// The scheduler keeps so few features that they always fit.
		if features, err := table.Compact(n.Features); err == nil && len(features) <= table.ChunkUnits {
			e.Text("Features", features)
		}
	}
	if len(n.HostKeys) > 0 {
		if keys, err := table.Compact(n.HostKeys); err == nil && len(keys) <= table.ChunkUnits {
			e.Text("HostKeys", keys)
		}
	}
	e.Text("DoorPublic", n.Listens.Public)
	e.Text("DoorInside", n.Listens.Inside)
	if len(n.Missing) > 0 { // as few as the scheduler keeps
		if missing, err := table.Compact(n.Missing); err == nil && len(missing) <= table.ChunkUnits {
			e.Text("Missing", missing)
		}
	}
	e.Int("Slot", n.Slot)
	e.Int("Protocol", n.Protocol)
	e.Text("Price", n.Price)
	e.Text("Currency", n.Currency)
	e.Text("VMPerHour", n.Parts.VM)
	e.Text("DiskPerHour", n.Parts.Disk)
	e.Text("AddressPerHour", n.Parts.Address)
	e.Text("PriceSource", n.Parts.Source)
	e.Time("From", n.From)
	e.Time("Mark", n.Mark)
	e.Int64("BootFor", int64(n.BootFor))
	e.Int64("BusyFor", int64(n.BusyFor))
	e.Int64("IdleFor", int64(n.IdleFor))
	e.Int64("DrainFor", int64(n.DrainFor))
	e.Text("Phases", string(n.Phases))
	return e.JSON()
}

// encodeLog writes facts for the ledger. If there is no room, it leaves out the
// labels: a report may miss them, but no money.
func encodeLog(partition, key string, l *pool.Log) ([]byte, error) {
	e := table.NewRow(partition, key)
	e.Int64("Seq", l.Seq)
	text, err := table.Compact(l.Entries)
	if err != nil {
		return nil, err
	}
	if e.Long("Entries", text) {
		return e.JSON(), nil
	}
	bare := slices.Clone(l.Entries)
	for i := range bare {
		bare[i].Labels = nil
	}
	if text, err = table.Compact(bare); err != nil {
		return nil, err
	}
	if !e.Long("Entries", text) {
		return nil, fault.New(fault.Invalid, "", "%d entries for the ledger are too long for one row; split the transaction", len(bare))
	}
	return e.JSON(), nil
}

// decodeHead reads the head and which version it is. An ETag that the row does
// not have stays empty.
func decodeHead(raw []byte) (pool.Head, pool.Version, error) {
	var row struct {
		versionRow
		Deleting, Down              bool
		N, Queued, Running, Wanted  table.Number
		DownSince, WakeAt, RecordAt time.Time
		Sets, Shares, Spec, Opening string
		Budgets                     string
		PartitionKey                string
		Format                      table.Number
	}
	if err := table.Decode(raw, &row); err != nil {
		return pool.Head{}, pool.Version{}, err
	}
	if row.Format > rowFormat {
		return pool.Head{}, pool.Version{}, fault.New(fault.Internal, "",
			"the rows of pool %s have the format %d, which a newer release has written; this release reads up to %d: "+
				"deploy the newer one again", row.PartitionKey, row.Format, rowFormat)
	}
	h := pool.Head{
		Seq:       int64(row.Seq),
		Nonce:     row.Nonce,
		Deleting:  row.Deleting,
		N:         int64(row.N),
		DownSince: table.TimeOf(row.DownSince),
		Down:      row.Down,
		WakeAt:    table.TimeOf(row.WakeAt),
		RecordAt:  table.TimeOf(row.RecordAt),
		Queued:    int(row.Queued),
		Running:   int(row.Running),
		Wanted:    int(row.Wanted),
		Bundled:   row.Format == formatBundled,
	}
	carries, err := decodeCarried(raw, row.Carried)
	if err != nil {
		return pool.Head{}, pool.Version{}, err
	}
	spec, err := table.LongText(raw, "Spec", row.Spec)
	if err == nil {
		err = table.DecodeText(raw, "its spec", spec, &h.Spec)
	}
	if err == nil && row.Format == formatCarried {
		var sets struct{ Sets []pool.Set }
		err = table.DecodeOptional(raw, "its scale sets", row.Sets, &sets)
		h.Bundled, h.Sets = carries.Bundled, sets.Sets
	} else if err == nil {
		err = table.DecodeOptional(raw, "its scale sets", row.Sets, &h.Sets)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "its shares", row.Shares, &h.Shares)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "its budgets", row.Budgets, &h.Budgets)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "the state of its network", row.Opening, &h.Opening)
	}
	if err != nil {
		return pool.Head{}, pool.Version{}, err
	}
	return h, row.version(), nil
}

func decodeNode(raw []byte) (*pool.Node, error) {
	var row struct {
		VMID, InstanceID, Name, Set, Size, State, Reason, Boot, Address, Price, Currency      string
		VMPerHour, DiskPerHour, AddressPerHour, PriceSource                                   string
		Blames, Stage, StageWhy, Features, HostKeys, DoorPublic, DoorInside, Missing, Phases  string
		Breaks, CPUs, GPUs, Memory, Seen, BootFor, BusyFor, IdleFor, DrainFor, Protocol, Slot table.Number
		Evicted, Spot, Outdated                                                               bool
		Since, AskedAt, CreatedAt, RunningAt, HeardAt, MissingAt, DeleteAt, From, Mark        time.Time
		RestartAt, BootAt, OutdatedAt, StageAt                                                time.Time
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	n := &pool.Node{
		VMID:       row.VMID,
		InstanceID: row.InstanceID,
		Name:       row.Name,
		Set:        row.Set,
		Size:       row.Size,
		Spot:       row.Spot,
		CPUs:       int(row.CPUs),
		GPUs:       int(row.GPUs),
		Memory:     job.Bytes(row.Memory),
		State:      pool.NodeState(row.State),
		Reason:     row.Reason,
		Since:      table.TimeOf(row.Since),
		AskedAt:    row.AskedAt,
		CreatedAt:  row.CreatedAt,
		RunningAt:  row.RunningAt,
		HeardAt:    row.HeardAt,
		MissingAt:  row.MissingAt,
		DeleteAt:   row.DeleteAt,
		Evicted:    row.Evicted,
		Breaks:     int(row.Breaks),
		Boot:       row.Boot,
		RestartAt:  row.RestartAt,
		BootAt:     row.BootAt,
		Address:    row.Address,
		Seen:       int64(row.Seen),
		Outdated:   row.Outdated,
		OutdatedAt: row.OutdatedAt,
		Stage:      row.Stage,
		StageWhy:   row.StageWhy,
		StageAt:    row.StageAt,
		Protocol:   int(row.Protocol),
		Listens:    protocol.Listens{Public: row.DoorPublic, Inside: row.DoorInside},
		Slot:       int(row.Slot),
		Price:      row.Price,
		Currency:   row.Currency,
		Parts:      usage.Parts{VM: row.VMPerHour, Disk: row.DiskPerHour, Address: row.AddressPerHour, Source: row.PriceSource},
		From:       row.From,
		Mark:       table.TimeOf(row.Mark),
		BootFor:    time.Duration(row.BootFor),
		BusyFor:    time.Duration(row.BusyFor),
		IdleFor:    time.Duration(row.IdleFor),
		DrainFor:   time.Duration(row.DrainFor),
		Phases:     usage.Phases(row.Phases),
	}
	if err := table.DecodeOptional(raw, "what stands against it", row.Blames, &n.Blames); err != nil {
		return nil, err
	}
	if err := table.DecodeOptional(raw, "its host keys", row.HostKeys, &n.HostKeys); err != nil {
		return nil, err
	}
	if err := table.DecodeOptional(raw, "what it lacks", row.Missing, &n.Missing); err != nil {
		return nil, err
	}
	if err := table.DecodeOptional(raw, "its features", row.Features, &n.Features); err != nil {
		return nil, err
	}
	return n, nil
}

func decodeLog(raw []byte) (*pool.Log, error) {
	var row struct {
		Seq     table.Number
		Entries string
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	l := &pool.Log{Seq: int64(row.Seq)}
	entries, err := table.LongText(raw, "Entries", row.Entries)
	if err == nil {
		err = table.DecodeText(raw, "its entries", entries, &l.Entries)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}
