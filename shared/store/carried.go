package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// Every transaction writes the head. What is small, and would have a row of its own for a short
// time or be written again with each job, goes into the head's row instead: the last rows of
// the change log, facts for the ledger until they are recorded, and which nodes are busy. When
// there is no room for more, it goes into rows.

// Bounds of what a head carries. Each write of the head writes it again: some kilobytes. Under
// load rows of the change log and facts are longer than this, and get rows.
const (
	mostEdits = 16   // each of a transaction
	editBytes = 512  // of each
	mostLogs  = 8    // then they go into one row
	logBytes  = 1024 // of the entries of each
	mostPages = 32   // rows with several Logs: of more the recorder is behind
	mostUses  = 8    // of nodes
	useBytes  = 512  // of each
)

// carried is what a head's row has besides the head, in its property Carried. The names are
// part of the row format.
type carried struct {
	Bundled bool           `json:"bundled,omitempty"` // Head.Bundled, in formatCarried
	Edits   []logRow       `json:"edits,omitempty"`   // of the change log, the oldest first
	Logs    []carriedLog   `json:"logs,omitempty"`    // the oldest first
	Pages   []int64        `json:"pages,omitempty"`   // the rows that have several Logs, see pool.LogPageKey
	Nodes   []pool.NodeUse `json:"nodes,omitempty"`   // newer than the rows of these nodes
}

// carriedLog is a pool.Log among others.
type carriedLog struct {
	Seq     int64           `json:"seq"`
	Entries json.RawMessage `json:"entries"`
}

// needsFormat reports whether a release that does not know carried would misread the pool. One
// that does not find a row of the change log loads the pool.
func (c *carried) needsFormat() bool { return len(c.Logs)+len(c.Pages)+len(c.Nodes) > 0 }

// mayRest reports whether a pool without live jobs goes back to the format of earlier releases in
// a transaction that changes the rows under keys: what nodes were used for goes into their rows, if
// nothing waits to be recorded. The end of a job does not do that: others may follow.
func (c *carried) mayRest(keys []string, room int) bool {
	return len(c.Logs)+len(c.Pages) == 0 && len(c.Nodes) <= room &&
		!slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, pool.JobKey("")) })
}

// text is the property; "" if nothing is carried.
func (c *carried) text(bundled bool) (string, error) {
	if !c.needsFormat() && len(c.Edits) == 0 {
		return "", nil
	}
	short := *c
	short.Edits, short.Bundled = withoutPrev(c.Edits), bundled && c.needsFormat()
	return table.Compact(&short)
}

func decodeCarried(raw []byte, text string) (*carried, error) {
	c := &carried{}
	if err := table.DecodeOptional(raw, "what it carries", text, c); err != nil {
		return nil, err
	}
	fillPrev(c.Edits)
	return c, nil
}

// addEdit adds a row of the change log, if it is short; a long one takes those that are carried
// with it. page is what has to be written.
func (c *carried) addEdit(partition string, row logRow, room int) (page *table.Operation, added bool, err error) {
	text, err := table.Compact(row)
	if err != nil {
		return nil, false, err
	}
	c.Edits = slices.DeleteFunc(c.Edits, func(e logRow) bool { return e.Seq <= row.Seq-pool.ChangeLogLength })
	if len(text) > editBytes {
		if len(c.Edits) == 0 || room <= 0 {
			return nil, false, nil
		}
		raw, err := encodeEditPage(partition, append(c.Edits, row))
		c.Edits = nil
		return &table.Operation{Kind: table.Put, Row: raw}, true, err
	}
	if len(c.Edits) >= mostEdits && room > 0 {
		raw, err := encodeEditPage(partition, c.Edits)
		if err != nil {
			return nil, false, err
		}
		page, c.Edits = &table.Operation{Kind: table.Put, Row: raw}, nil
	}
	c.Edits = append(c.Edits, row)
	return page, true, nil
}

// addLog adds facts, if they are short; long ones take those that are carried with them. page is
// what has to be written.
func (c *carried) addLog(partition string, l *pool.Log) (page *table.Operation, added bool, err error) {
	text, err := table.Compact(l.Entries)
	if err != nil {
		return nil, false, err
	}
	more := carriedLog{l.Seq, json.RawMessage(text)}
	switch isLong := len(text) > logBytes; {
	case !isLong && len(c.Logs) < mostLogs:
		c.Logs = append(c.Logs, more)
		return nil, true, nil
	case len(c.Logs) == 0 || len(c.Pages) >= mostPages:
		return nil, false, nil
	case isLong:
		page, err = c.writeLogs(partition, append(slices.Clone(c.Logs), more))
		return page, page != nil, err
	}
	page, err = c.writeLogs(partition, c.Logs)
	c.Logs = append(c.Logs, more)
	return page, true, err
}

// writeLogs makes a page of the facts that are carried, and perhaps more; nil: they are too long.
func (c *carried) writeLogs(partition string, logs []carriedLog) (*table.Operation, error) {
	raw, fits, err := encodeLogPage(partition, logs)
	if err != nil || !fits {
		return nil, err
	}
	c.Pages, c.Logs = append(c.Pages, logs[0].Seq), nil
	return &table.Operation{Kind: table.Put, Row: raw}, nil
}

// dropKey forgets what is carried for a row that is deleted, and reports whether there is no
// such row.
func (c *carried) dropKey(key string) bool {
	if vmid, isNode := pool.VMIDOf(key); isNode {
		c.dropUse(vmid)
		return false
	}
	before := len(c.Logs)
	c.Logs = slices.DeleteFunc(c.Logs, func(l carriedLog) bool { return pool.LogKey(l.Seq) == key })
	c.Pages = slices.DeleteFunc(c.Pages, func(seq int64) bool { return pool.LogPageKey(seq) == key })
	return len(c.Logs) < before
}

// addUse takes the use of a node, and reports whether there was room.
func (c *carried) addUse(u pool.NodeUse) bool {
	c.dropUse(u.VMID)
	if text, err := table.Compact(u); err != nil || len(text) > useBytes || len(c.Nodes) >= mostUses {
		return false
	}
	c.Nodes = append(c.Nodes, u)
	return true
}

func (c *carried) dropUse(vmid string) {
	c.Nodes = slices.DeleteFunc(c.Nodes, func(u pool.NodeUse) bool { return u.VMID == vmid })
}

// returnUses moves the use of nodes into their rows, and returns the keys of these.
func (c *carried) returnUses(partition string) (operations []table.Operation, keys []string) {
	for i := range c.Nodes {
		u := &c.Nodes[i]
		operations = append(operations, table.Operation{Kind: table.Merge, Row: encodeUse(partition, u), Match: table.Any})
		keys = append(keys, pool.NodeKey(u.VMID))
	}
	c.Nodes = nil
	return operations, keys
}

// applyUses brings nodes that were read from their rows up to date.
func (c *carried) applyUses(nodes []*pool.Node) {
	for i := range c.Nodes {
		for _, n := range nodes {
			if n.VMID == c.Nodes[i].VMID {
				n.SetUse(c.Nodes[i])
			}
		}
	}
}

// logs are the facts that are carried.
func (c *carried) logs() ([]*pool.Log, error) { return decodeLogs(nil, c.Logs, 0) }

func decodeLogs(raw []byte, all []carriedLog, page int64) ([]*pool.Log, error) {
	logs := make([]*pool.Log, len(all))
	for i, l := range all {
		var entries []usage.Entry
		if err := table.DecodeText(raw, "its entries", string(l.Entries), &entries); err != nil {
			return nil, err
		}
		logs[i] = &pool.Log{Seq: l.Seq, Entries: entries, Page: page}
	}
	return logs, nil
}

// encodeUse writes a NodeUse into the row of its node, by a merge.
func encodeUse(partition string, u *pool.NodeUse) []byte {
	e := table.NewFullRow(partition, pool.NodeKey(u.VMID))
	e.Text("State", string(u.State))
	e.Sentence("Reason", u.Reason)
	e.Time("Since", u.Since)
	e.Int64("Seen", u.Seen)
	e.Time("Mark", u.Mark)
	e.Int64("BootFor", int64(u.BootFor))
	e.Int64("BusyFor", int64(u.BusyFor))
	e.Int64("IdleFor", int64(u.IdleFor))
	e.Int64("DrainFor", int64(u.DrainFor))
	e.Text("Phases", string(u.Phases))
	return e.JSON()
}

// encodeLogPage writes facts of several transactions into one row. Its property is not that of
// a single Log: an earlier release must not take them for one.
func encodeLogPage(partition string, logs []carriedLog) (raw []byte, fits bool, err error) {
	text, err := table.Compact(logs)
	if err != nil {
		return nil, false, err
	}
	e := table.NewRow(partition, pool.LogPageKey(logs[0].Seq))
	e.Int64("Seq", logs[0].Seq)
	fits = e.Long("Logs", text)
	return e.JSON(), fits, nil
}

// decodeLogRows reads a row of facts: one Log, or a page.
func decodeLogRows(raw []byte) ([]*pool.Log, error) {
	key, err := table.DecodeKey(raw)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(key, "+") {
		l, err := decodeLog(raw)
		return []*pool.Log{l}, err
	}
	var row struct {
		Seq  table.Number
		Logs string
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	text, err := table.LongText(raw, "Logs", row.Logs)
	if err != nil {
		return nil, err
	}
	var all []carriedLog
	if err := table.DecodeText(raw, "its facts", text, &all); err != nil {
		return nil, err
	}
	if len(all) == 0 || all[0].Seq != int64(row.Seq) {
		return nil, table.Damaged(raw, fmt.Errorf("it has %d Logs and does not begin with %d", len(all), row.Seq))
	}
	return decodeLogs(raw, all, all[0].Seq)
}

// encodeEditPage writes rows of the change log into one, in the place of the last of them. An
// earlier release finds a gap there.
func encodeEditPage(partition string, edits []logRow) ([]byte, error) {
	last := edits[len(edits)-1].Seq
	text, err := table.Compact(withoutPrev(edits))
	if err != nil {
		return nil, err
	}
	e := table.NewRow(partition, pool.ChangeLogKey(last))
	e.Int64("Seq", last)
	e.Text("Edits", text)
	return e.JSON(), nil
}

// fillPrev completes rows of the change log that were written with withoutPrev.
func fillPrev(edits []logRow) {
	for i := 1; i < len(edits); i++ {
		if edits[i].Prev == "" {
			edits[i].Prev = edits[i-1].Nonce
		}
	}
}

// withoutPrev leaves out of each row what the row before it says.
func withoutPrev(edits []logRow) []logRow {
	short := slices.Clone(edits)
	for i := 1; i < len(short); i++ {
		if short[i].Prev == short[i-1].Nonce {
			short[i].Prev = ""
		}
	}
	return short
}
