package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

func lines(records ...record) []byte {
	var all []byte
	for _, r := range records {
		all = appendLine(all, r)
	}
	return all
}

// sample has a record of every kind.
func sample() []record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	work := func(name string) *protocol.Assignment {
		return &protocol.Assignment{Job: name, Attempt: 1, Command: []string{"true"}, CPUs: 1}
	}
	return []record{
		{Node: "cpu.vm-1", Machine: "boot-1"},
		{Seen: 1, N: 1, Assign: work("a")}, {Seen: 2, N: 2, Assign: work("b")}, {Seen: 3, N: 3, Assign: work("c")}, {Seen: 4, N: 4,
			Assign: work("d")},
		{N: 1, Starting: true}, {N: 1, Started: &process.Process{PID: 77, Birth: "123", At: at}},
		{N: 2, Starting: true},
		{N: 3, Starting: true}, {N: 3, Started: &process.Process{PID: 78, Birth: "124", At: at}}, {Finished: &protocol.Finished{N: 3,
			State: "failed", ExitCode: 3, StartedAt: at, EndedAt: at}},
		{Seen: 6}, {N: 9, Drop: "asked to"}, {Finished: &protocol.Finished{N: 5, State: "cancelled", EndedAt: at}}, {Acked: []int64{5, 1}},
	}
}

func read(tb testing.TB, file []byte) (*state, int64, int) {
	tb.Helper()
	s := newState()
	good, damaged, err := replay(bytes.NewReader(file), s)
	if err != nil {
		tb.Fatal(err)
	}
	return s, good, damaged
}

// wanted checks the state after sample.
func wanted(tb testing.TB, s *state) {
	tb.Helper()
	got := map[int64]phase{}
	for n, h := range s.held {
		got[n] = h.phase
	}
	if want := map[int64]phase{1: running, 2: starting, 3: ended, 4: waiting}; !reflect.DeepEqual(got, want) {
		tb.Errorf("held: got %v, want %v", got, want)
	}
	if s.seen != 6 || s.node != "cpu.vm-1" || s.machine != "boot-1" || s.drops[9] != "asked to" || s.held[1].proc.PID != 77 ||
		s.held[3].result.ExitCode != 3 {
		tb.Errorf("got %+v", s)
	}
}

func TestJournalReadsWhatItWrote(t *testing.T) {
	t.Parallel()
	s, _, damaged := read(t, lines(sample()...))
	wanted(t, s)
	again, _, _ := read(t, lines(s.records()...))
	wanted(t, again)
	if damaged != 0 {
		t.Errorf("damaged: got %d", damaged)
	}
}

func TestTornJournal(t *testing.T) {
	t.Parallel()
	whole := lines(sample()...)
	for cut := range whole {
		s, good, damaged := read(t, whole[:cut])
		if damaged != 0 || good > int64(cut) || good > 0 && whole[good-1] != '\n' {
			t.Fatalf("cut at %d: got good %d, damaged %d", cut, good, damaged)
		}
		if want := bytes.LastIndexByte(whole[:cut], '\n') + 1; good != int64(want) {
			t.Fatalf("cut at %d: got good %d, want %d", cut, good, want)
		}
		for _, r := range s.records() { // whatever it is, it can be written again
			appendLine(nil, r)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	all := sample()
	good := lines(all...)
	for name, bad := range map[string]string{
		"zeros": strings.Repeat("\x00", 100) + "\n", "no checksum": "{\"seen\":900}\n", "other checksum": "00000000 {\"seen\":900}\n",
		"empty": "\n", "too long": strings.Repeat("x", maxLine+70000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			middle := append(append(lines(all[:4]...), bad...), lines(all[4:]...)...)
			s, _, damaged := read(t, middle)
			wanted(t, s)
			if damaged != 1 {
				t.Errorf("damaged in the middle: got %d, want 1", damaged)
			}
			s, end, _ := read(t, append(bytes.Clone(good), bad...))
			wanted(t, s)
			if end != int64(len(good)) {
				t.Errorf("damaged at the end: got %d bytes kept, want %d", end, len(good))
			}
		})
	}
}

func TestJournalFileIsCompacted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j, s, _, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(records ...record) {
		err := j.write(func() []byte { return lines(records...) }, s.records)
		if err == nil {
			err = j.sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(r record) { s.apply(r); write(r) }
	for _, r := range sample() {
		put(r)
	}
	text := strings.Repeat("x", 100_000)
	var largest int64
	for n := int64(100); n < 200; n++ {
		put(record{Seen: n, N: n, Assign: &protocol.Assignment{Job: "j", Script: text}})
		put(record{Finished: &protocol.Finished{N: n, State: string(job.AttemptSucceeded)}})
		put(record{Acked: []int64{n}})
		at, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, at.Size())
	}
	if largest > compactFrom+1<<20 {
		t.Errorf("size: got up to %d", largest)
	}
	j.broken.Store(true) // as after a failed write
	put(record{Seen: 500})
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	_, back, damaged, err := openJournal(path)
	if err != nil || damaged != 0 || back.seen != 500 {
		t.Fatalf("got seen %d, %d damaged, %v", back.seen, damaged, err)
	}
	back.seen = 6
	wanted(t, back)
}

func TestJournalFailureIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gone", "journal")
	if _, _, _, err := openJournal(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(fmt.Sprint(err), "DSVM_INSTANCE_DIR") {
		t.Errorf("got %v", err)
	}
	path = filepath.Join(t.TempDir(), "journal")
	j, s, _, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.f.Close() // every write fails
	r := record{Seen: 3}
	s.apply(r)
	if err := j.write(func() []byte { return lines(r) }, s.records); err == nil {
		t.Fatal("a failed write went unnoticed")
	}
	// The next one writes everything anew, the lost line included.
	if err := j.write(func() []byte { return nil }, s.records); err != nil {
		t.Fatal(err)
	}
	if _, back, _, err := openJournal(path); err != nil || back.seen != 3 {
		t.Errorf("got seen %d, %v; want 3", back.seen, err)
	}
}

func FuzzJournal(f *testing.F) {
	whole := lines(sample()...)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte("00000000 {}\n\n\x00"))
	f.Add(lines(record{N: 1, Starting: true}, record{Finished: &protocol.Finished{}}))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, good, _ := read(t, file)
		if good > int64(len(file)) {
			t.Fatalf("good: got %d of %d bytes", good, len(file))
		}
		// What was read is what a shortened file says, and what is written anew.
		for _, same := range [][]byte{file[:good], lines(s.records()...)} {
			again, _, damaged := read(t, same)
			if damaged > 0 && len(same) != int(good) {
				t.Fatal("a journal was written that cannot be read")
			}
			if again.seen != s.seen || !reflect.DeepEqual(again.drops, s.drops) || !reflect.DeepEqual(again.numbers(), s.numbers()) {
				t.Fatalf("got %+v, want %+v", again, s)
			}
			for n, h := range s.held {
				if got := again.held[n]; got.phase != h.phase || got.proc.PID != h.proc.PID && h.phase != ended {
					t.Fatalf("assignment %d: got %+v, want %+v", n, got, h)
				}
			}
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	base := map[string]string{"DSVM_POOL": "cpu", "DSVM_VMID": "ABC-1", "DSVM_INSTANCE_DIR": "x", "SHARE_PATH": "/share",
		"ServiceBusConnection": "secret", "DSVM_POWER_OFF": "systemctl poweroff"}
	tests := []struct {
		name, setting, value, says string
	}{
		{"as it is", "", "", ""},
		{"no pool", "DSVM_POOL", "", "DSVM_POOL is missing"},
		{"bad pool", "DSVM_POOL", "../x", "a pool's name"},
		{"bad VMID", "DSVM_VMID", "a/b", "VMID"},
		{"no share", "SHARE_PATH", "", "SHARE_PATH is missing"},
		{"no bus", "ServiceBusConnection", "", "ServiceBusConnection is missing"},
		{"bad cpus", "DSVM_CPUS", "many", "number from 1"},
		{"bad time", "DSVM_KILL_GRACE", "10 minutes", "not a duration"},
		{"bad cache", "DSVM_SOURCE_CACHE", "10GB", "not an amount of memory"},
		{"off at once", "DSVM_ALONE_AFTER", "0s", "more than 0s"},
		{"no time for sources", "DSVM_SOURCE_TIMEOUT", "0s", "more than 0s"},
		{"no reports", "DSVM_REPORT_EVERY", "0s", "more than 0s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, err := ReadConfig(func(name string) string {
				if name == test.setting {
					return test.value
				}
				return base[name]
			})
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want %q", err, test.says)
				}
				return
			}
			if err != nil || c.VMID != "abc-1" || c.Node != "abc-1" || !filepath.IsAbs(c.InstanceDir) || c.CPUs < 1 ||
				c.ReportEvery != time.Minute || c.StartedWithin != time.Second || c.KillGrace != 10*time.Second || c.WorkQueue != "work" ||
				c.SourceTimeout != 30*time.Minute || c.SourceCache != 10<<30 || c.SourceLocal || c.NodeEventsQueue != "node-events" {
				t.Errorf("got %v, %v", c.Pool, err)
			}
		})
	}
}
