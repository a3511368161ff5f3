package disk

import (
	"bytes"
	"encoding/gob"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/internal/mutant"
)

// Variables of a process that the test of a loss of power starts: the store, and for the
// recorder where to write what it saw; whether the stores do not sync.
const (
	powerStore  = "DSVM_TEST_POWER_STORE"
	powerTrace  = "DSVM_TEST_POWER_TRACE"
	powerMutant = "DSVM_TEST_POWER_MUTANT"
)

func TestMain(m *testing.M) {
	path, output := os.Getenv(powerStore), os.Getenv(powerTrace)
	var err error
	switch {
	case path == "":
		os.Exit(m.Run())
	case output != "":
		os.Unsetenv(powerTrace)
		err = trace(filepath.Dir(path), output, os.Args[0])
	default:
		err = work(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var powerLosses = flag.Int("powerlosses", 60, "how many losses of power TestPowerLoss plays")

// powerWorkers change the store at the same time, each keys of its own.
const powerWorkers = 3

// firstRow is the first row that a worker keeps after a change: after each twenty it
// deletes them all, so that most of the file is free.
func firstRow(i int) int {
	const kept = 20
	return max(1, i-max(0, i-1)%kept)
}

func rowKey(worker, i int) []byte { return fmt.Appendf(nil, "row%d-%06d", worker, i) }

// work changes a store, says which changes were acknowledged, closes it and opens it again.
func work(path string) error {
	mutant.SkipSync = os.Getenv(powerMutant) != ""
	const lives, each = 3, 40
	for life := range lives {
		db, err := openStore(path, limits{64 << 10, 3 * time.Millisecond, 100 << 10})
		if err != nil {
			return err
		}
		var wait sync.WaitGroup
		errs := make([]error, powerWorkers)
		for w := range powerWorkers {
			wait.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), uint64(life)))
				for i := life*each + 1; i <= (life+1)*each && errs[w] == nil; i++ {
					errs[w] = db.Update(func(tx *Tx) error {
						b, err := tx.CreateBucketIfNotExists(rows)
						if err != nil {
							return err
						}
						if err := b.Put(fmt.Appendf(nil, "last%d", w), fmt.Append(nil, i)); err != nil {
							return err
						}
						for old := firstRow(i - 1); old < firstRow(i); old++ {
							if err := b.Delete(rowKey(w, old)); err != nil {
								return err
							}
						}
						return b.Put(rowKey(w, i), noise(i, rng.IntN(3*logPage)))
					})
					if errs[w] == nil {
						_, errs[w] = fmt.Printf("%d %d\n", w, i)
					}
				}
			})
		}
		wait.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		if life == 0 {
			kill(db) // so that the next one brings the log into the tree
		} else if err := db.Close(); err != nil {
			return err
		}
	}
	return nil
}

// recordCalls runs work and returns the calls that it made.
func recordCalls(t *testing.T, skipSync bool) (events []event) {
	t.Helper()
	dir := t.TempDir()
	output := filepath.Join(t.TempDir(), "events")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powerStore+"="+filepath.Join(dir, "x.db"), powerTrace+"="+output)
	if skipSync {
		cmd.Env = append(cmd.Env, powerMutant+"=1")
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(said), "operation not permitted") {
			t.Skipf("this system does not allow to trace a process: %s", said)
		}
		t.Fatalf("%v: %s", err, said)
	}
	b, err := os.ReadFile(output)
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&events)
	}
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// crash writes to a directory what a disk may have when the power goes after some of the
// calls: of what was not synced any part, in any order, in pieces of a sector or a page.
// It returns the acknowledged change of each worker.
func crash(dir string, events []event, rng *rand.Rand) (acknowledged [powerWorkers]int, err error) {
	isSynced := make([]bool, len(events)) // what is on the disk for sure
	for _, e := range events {
		for i := range e.Before {
			switch before := events[i]; {
			case e.Kind == synced && before.File == e.File && (before.Kind == written_ || before.Kind == truncated):
				isSynced[i] = true
			case e.Kind == syncedDir && (before.Kind == created || before.Kind == linked || before.Kind == removed):
				isSynced[i] = true
			}
		}
	}
	share := rng.IntN(101) // of what is not synced and yet there, in percent
	names, content := map[string]int{}, map[int][]byte{}
	for i, e := range events {
		isThere := func() bool { return isSynced[i] || rng.IntN(100) < share }
		switch e.Kind {
		case created, linked:
			if isThere() {
				names[e.Name] = e.File
			}
		case removed:
			if isThere() {
				delete(names, e.Name)
			}
		case truncated:
			if b := content[e.File]; isThere() {
				content[e.File] = append(b, make([]byte, max(0, int(e.Offset)-len(b)))...)[:e.Offset]
			}
		case written_:
			piece := []int{512, logPage}[rng.IntN(2)]
			for at := 0; at < len(e.Data); at += piece {
				if part := e.Data[at:min(at+piece, len(e.Data))]; isThere() {
					end := int(e.Offset) + at + len(part)
					b := content[e.File]
					b = append(b, make([]byte, max(0, end-len(b)))...)
					copy(b[int(e.Offset)+at:], part)
					content[e.File] = b
				}
			}
		case said:
			var worker, n int
			if _, err := fmt.Sscan(string(e.Data), &worker, &n); err != nil {
				return acknowledged, err
			}
			acknowledged[worker] = n
		}
	}
	for name, file := range names {
		if err := os.WriteFile(filepath.Join(dir, name), content[file], 0o600); err != nil {
			return acknowledged, err
		}
	}
	return acknowledged, nil
}

// checkPower opens what is left, and says what is lost.
func checkPower(dir string, acknowledged [powerWorkers]int) error {
	db, err := Open(filepath.Join(dir, "x.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *Tx) error {
		for w, want := range acknowledged {
			b, got := tx.Bucket(rows), 0
			if b != nil {
				_, _ = fmt.Sscan(string(b.Get(fmt.Appendf(nil, "last%d", w))), &got) // 0 if there is none
			}
			if got != want && got != want+1 {
				return fmt.Errorf("worker %d: change %d was acknowledged, and %d is the last there", w, want, got)
			}
			if b != nil && b.Get(rowKey(w, firstRow(got)-1)) != nil {
				return fmt.Errorf("worker %d: a row before change %d was deleted, and is there", w, got)
			}
			for i := firstRow(got); i <= got; i++ {
				v := b.Get(rowKey(w, i))
				if v == nil || !bytes.Equal(v, noise(i, len(v))) {
					return fmt.Errorf("worker %d: change %d of %d is not there", w, i, got)
				}
			}
		}
		return nil
	})
}

// TestPowerLoss records the calls that a store makes on its files, and opens what a disk
// may have after a loss of power at any of them.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	events := recordCalls(t, false)
	kinds := map[eventKind]int{}
	for _, e := range events {
		kinds[e.Kind]++
	}
	const twice = 2 // a new store, and a smaller one in its place
	for kind := created; kind <= said; kind++ {
		if kinds[kind] == 0 || kind == linked && kinds[kind] < twice {
			t.Errorf("no event of kind %d was recorded: %v", kind, kinds)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range *powerLosses {
		at := rng.IntN(len(events) + 1)
		dir := t.TempDir()
		acknowledged, err := crash(dir, events[:at], rng)
		if err == nil {
			err = checkPower(dir, acknowledged)
		}
		if err != nil {
			t.Fatalf("after %d of %d calls: %v", at, len(events), err)
		}
	}
	t.Logf("%d losses of power among %d calls: %v", *powerLosses, len(events), kinds)
}

// TestPowerLossIsFound: the test finds the loss when a store does not sync.
func TestPowerLossIsFound(t *testing.T) {
	t.Parallel()
	events := recordCalls(t, true)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range *powerLosses {
		dir := t.TempDir()
		acknowledged, err := crash(dir, events[:rng.IntN(len(events)+1)], rng)
		if err == nil {
			err = checkPower(dir, acknowledged)
		}
		if err != nil {
			t.Logf("loss %d: %v", n, err)
			return
		}
	}
	t.Errorf("%d losses of power found nothing", *powerLosses)
}
