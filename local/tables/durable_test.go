package tables

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// childEnv names the store file that the test binary, started by a test, serves
// until its standard input ends.
const childEnv = "DSVM_TABLES_TEST_STORE"

func TestMain(m *testing.M) {
	path := os.Getenv(childEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	s, err := Start(Config{Addr: "127.0.0.1:0", Path: path, Account: testAccount, Key: testKey})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.ConnectionString())
	bufio.NewReader(os.Stdin).ReadByte()
	s.Close()
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	s := serve(t, path)
	c := tableOf(t, s, "pools")
	fill(t, c, "p", 150)
	last, err := c.UpsertEntity(deadline(t), row("p", "00000", "N", -1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddEntity(deadline(t), row("p", "late"), nil); err == nil {
		t.Error("a closed server must not answer")
	}
	s = serve(t, path)
	c = connect(t, s).NewClient("pools")
	if got := len(filtered(t, c, "")); got != 150 {
		t.Errorf("got %d rows, want 150", got)
	}
	next, err := c.UpdateEntity(deadline(t), row("p", "00000", "N", -2), &aztables.UpdateEntityOptions{IfMatch: &last.ETag, UpdateMode: aztables.UpdateModeReplace})
	if err != nil {
		t.Fatal(err)
	}
	if next.ETag <= last.ETag {
		t.Errorf("got ETag %s after %s, want a later one", next.ETag, last.ETag)
	}
}

// TestTimeGoesOnAfterRestart starts on a store whose last write lies in the
// future, as when the clock was set back.
func TestTimeGoesOnAfterRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	s := serve(t, path)
	s.clock.last += 3600 * ticksPerSecond * 24 * 365
	future := s.clock.last
	c := tableOf(t, s, "pools")
	before, err := c.AddEntity(deadline(t), row("p", "r"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = serve(t, path)
	after, err := connect(t, s).NewClient("pools").UpsertEntity(deadline(t), row("p", "r"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if future == 0 || after.ETag <= before.ETag {
		t.Errorf("got ETag %s after %s, want a later one", after.ETag, before.ETag)
	}
}

func TestStoreInUseOrForeign(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a store ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(Config{Addr: "127.0.0.1:0", Path: path, Account: testAccount, Key: testKey}); err == nil {
		s.Close()
		t.Error("started on a file that is no store")
	}
	if b, _ := os.ReadFile(path); !strings.HasPrefix(string(b), "not a store") {
		t.Error("the file was changed")
	}
}

// TestKilledServerKeepsWhatItAcknowledged kills a server of another process
// while clients write, and looks into its store.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+path)
	in, err := child.StdinPipe() // ends with this process, and the child with it
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { child.Process.Kill(); child.Wait() })
	defer stop()
	connection, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	service, err := aztables.NewServiceClientFromConnectionString(strings.TrimSpace(connection), options())
	if err != nil {
		t.Fatal(connection, err)
	}
	c := service.NewClient("pools")
	if _, err := c.CreateTable(deadline(t), nil); err != nil {
		t.Fatal(err)
	}

	const writers, enough, rows = 4, 200, 5
	var acknowledged [writers]atomic.Int64 // single rows, or transactions, of each writer
	var total atomic.Int64
	reached := make(chan struct{})
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for n := 0; ; n++ {
				if err := writeOnce(t, c, w, n, rows); err != nil {
					return
				}
				acknowledged[w].Add(1)
				if total.Add(1) == enough {
					close(reached)
				}
			}
		})
	}
	select {
	case <-reached:
	case <-deadline(t).Done():
		t.Fatal("the writers did not get on")
	}
	stop()
	wait.Wait()

	c = connect(t, serve(t, path)).NewClient("pools")
	for w := range writers {
		each := int64(1)
		if w%2 == 1 {
			each = rows
		}
		got := int64(len(filtered(t, c, fmt.Sprintf("PartitionKey eq 'w%d'", w))))
		if want := acknowledged[w].Load() * each; got != want && got != want+each || got%each != 0 {
			t.Errorf("writer %d: %d rows acknowledged, %d found, in groups of %d", w, want, got, each)
		}
	}
	if got := len(filtered(t, c, "PartitionKey eq 'head' and N ge 1")); got != 1 {
		t.Errorf("got %d heads, want 1", got)
	}
}

// writeOnce adds a row, or for odd writers a group of them in a transaction; the
// first writer also changes a row again and again.
func writeOnce(t *testing.T, c *aztables.Client, w, n, rows int) error {
	partition := fmt.Sprintf("w%d", w)
	if w == 0 {
		if _, err := c.UpsertEntity(deadline(t), row("head", "head", "N", n+1), nil); err != nil {
			return err
		}
	}
	if w%2 == 0 {
		_, err := c.AddEntity(deadline(t), row(partition, fmt.Sprint(n), "N", n), nil)
		return err
	}
	var a actions
	for i := range rows {
		a = append(a, aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: row(partition, fmt.Sprintf("%d-%d", n, i))})
	}
	_, err := c.SubmitTransaction(deadline(t), a, nil)
	return err
}
