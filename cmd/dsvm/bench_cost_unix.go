//go:build unix

package main

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dsvmpools/local/disk"
)

// perJob is what one job costs.
type perJob struct {
	MessagesSent      float64 `json:"messagesSent"`
	MessagesDelivered float64 `json:"messagesDelivered"`
	TableTransactions float64 `json:"tableTransactions"`
	EntitiesWritten   float64 `json:"entitiesWritten"`
	CPUMs             float64 `json:"cpuMs"`
	CPUMsByPart       cpuMs   `json:"cpuMsByPart"`
	// BytesWritten is what the stores of the servers have written, as they count it, and
	// what the kernel counts for the other processes.
	BytesWritten float64 `json:"bytesWritten"`
	// Syncs are calls that wait until a disk has what was written: of the stores of the
	// servers and of the agents' journals, which count their own. Nothing else syncs.
	Syncs float64 `json:"syncs"`
	// ShareBytes and RowBytes are what the disk holds more than before, in the job's
	// folders on the share, and in the files of the tables.
	ShareBytes float64 `json:"shareBytes"`
	RowBytes   float64 `json:"rowBytes"`
}

// cpuMs is processor time by part. That of the servers includes the client of the
// benchmark itself; that of the agents the init of their nodes.
type cpuMs struct {
	Servers float64 `json:"servers"`
	Handler float64 `json:"handler"`
	Agents  float64 `json:"agents"`
	Jobs    float64 `json:"jobs"`
}

// benchMemory is memory in MB. The peaks are what each process had resident at most (of
// several agents the largest), mapped files included; those of the servers count from the begin of the
// load. Anonymous is what they had at the end without mapped files.
type benchMemory struct {
	Peak      memoryByPart `json:"peak"`
	Anonymous memoryByPart `json:"anonymous"`
}

type memoryByPart struct {
	Servers float64 `json:"servers"`
	Handler float64 `json:"handler"`
	Agent   float64 `json:"agent"`
}

// counters are the servers' counts, and what the kernel counts for all processes.
type counters struct {
	sent, delivered, transactions, entities, syncs, written int64

	processes processCounters
}

// processCounters is what the kernel counts for the processes of an instance.
type processCounters struct {
	servers, handler, agents, jobs time.Duration // of processor
	written                        int64         // bytes on their way to a disk, of all but the servers
}

func (b *bencher) readCounters() counters {
	processes := readProcesses()
	bus, tables, stores := b.in.Bus.Stats(), b.in.Tables.Stats(), disk.Totals()
	return counters{
		sent:         bus.MessagesSent,
		delivered:    bus.MessagesDelivered,
		transactions: tables.Transactions,
		entities:     tables.EntitiesWritten,
		written:      stores.Bytes + processes.written,
		syncs:        stores.Syncs + readSyncCount(b.syncCount()),
		processes:    processes,
	}
}

// syncCount is the file in which the agents count their syncs.
func (b *bencher) syncCount() string { return filepath.Join(b.dir, "syncs") }

// readSyncCount reads a count; there is none before the first agent has started.
func readSyncCount(path string) int64 {
	count, err := os.ReadFile(path)
	if err != nil || len(count) < 8 {
		return 0
	}
	return int64(binary.NativeEndian.Uint64(count))
}

// per is the difference of two readings for each of some jobs.
func (c counters) per(before counters, jobs int) perJob {
	n := float64(jobs)
	was, is := before.processes, c.processes
	cpu := cpuMs{
		Servers: ms(is.servers-was.servers) / n,
		Handler: ms(is.handler-was.handler) / n,
		Agents:  ms(is.agents-was.agents) / n,
		Jobs:    ms(is.jobs-was.jobs) / n,
	}
	return perJob{
		MessagesSent:      float64(c.sent-before.sent) / n,
		MessagesDelivered: float64(c.delivered-before.delivered) / n,
		TableTransactions: float64(c.transactions-before.transactions) / n,
		EntitiesWritten:   float64(c.entities-before.entities) / n,
		CPUMs:             cpu.Servers + cpu.Handler + cpu.Agents + cpu.Jobs,
		CPUMsByPart:       cpu,
		Syncs:             float64(c.syncs-before.syncs) / n,
		BytesWritten:      float64(c.written-before.written) / n,
	}
}

// storedBytes is what the disk holds for jobs: on the share, and in the tables.
type storedBytes struct{ share, rows int64 }

func (b *bencher) storedBytes() (s storedBytes) {
	s.share = allocated(filepath.Join(b.in.Share, "jobs"), "")
	s.rows = allocated(filepath.Join(b.dir, "data"), "tables.db")
	return s
}

func (p *perJob) addStored(is, was storedBytes, jobs int) {
	p.ShareBytes = float64(is.share-was.share) / float64(jobs)
	p.RowBytes = float64(is.rows-was.rows) / float64(jobs)
}

// allocated is what files and folders below dir whose names have the prefix take on the
// disk.
func allocated(dir, prefix string) (total int64) {
	const block = 512 // bytes of a block in stat(2), whatever the file system
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(d.Name(), prefix) {
			return nil // gone meanwhile, or another's
		}
		if at, err := d.Info(); err == nil {
			if stat, ok := at.Sys().(*syscall.Stat_t); ok {
				total += stat.Blocks * block
			}
		}
		return nil
	})
	return total
}
