package collector

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestLimitFollowsWhatIsInUse(t *testing.T) {
	t.Parallel()
	const mb, goal = 1 << 20, 96 << 20
	for _, c := range []struct{ live, beside, want int64 }{
		{0, 0, goal},
		{40 * mb, 8 * mb, goal},
		{200 * mb, 10 * mb, 260 * mb},
	} {
		if got := limitFor(goal, c.live, c.beside); got != c.want {
			t.Errorf("with %d MB in use and %d MB beside, the limit is %d MB, want %d MB", c.live/mb, c.beside/mb, got/mb, c.want/mb)
		}
	}
}

// TestCollector runs itself as another process, because the collector is set for a whole one.
func TestCollector(t *testing.T) {
	const child = "DSVM_TEST_COLLECTOR"
	if os.Getenv(child) != "" {
		runCollectorChild(t)
		return
	}
	t.Parallel()
	for _, c := range []struct{ env, want string }{
		{"", "percent=400 limit=96 grown=true shrunk=true"},
		{"GOGC=50", "percent=50 limit=96 grown=true shrunk=true"},
		{"GOMEMLIMIT=300MiB", "percent=400 limit=300 grown=false shrunk=true"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCollector$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", c.env)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("with %q: %v, want %s in\n%s", c.env, err, c.want, out)
		}
	}
}

func runCollectorChild(t *testing.T) {
	Tune(os.Getenv, 96<<20)
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	first := limit()
	much := make([]byte, 320<<20)
	grown := collectsUntil(func() bool { return limit() > 380<<20 })
	runtime.KeepAlive(much)
	much = nil
	shrunk := collectsUntil(func() bool { return limit() == first })
	t.Logf("percent=%d limit=%d grown=%t shrunk=%t", percent, first>>20, grown, shrunk)
}

// collectsUntil collects until something holds, and reports whether it does in time.
func collectsUntil(ok func() bool) bool {
	for end := time.Now().Add(time.Second); time.Now().Before(end); runtime.GC() {
		if ok() {
			return true
		}
		runtime.Gosched()
	}
	return ok()
}
