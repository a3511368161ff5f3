package person

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/shared/plain"
)

func TestBusiestGPU(t *testing.T) {
	t.Parallel()
	const text = `# gpu         pid  type    sm    mem    enc    dec    command
# Idx           #   C/G     %      %      %      %    name
    0       1234     C    43     10      -      -    python
    0       1235     C    99     10      -      -    python
    1          -     -     -      -      -      -    -
    1       1236     C     -      -      -      -    python
`
	for _, test := range []struct {
		name string
		ours []int
		want int
	}{
		{"ours alone", []int{1234}, 43},
		{"the busiest", []int{1234, 1235}, 99},
		{"memory that is held is no work", []int{1236}, 0},
		{"another's", []int{7}, 0},
	} {
		ours := map[int]bool{}
		for _, pid := range test.ours {
			ours[pid] = true
		}
		if got := busiestGPU(text, ours); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

// TestCountersOfBothVersions reads files as the kernel writes them (cgroup-v2.rst,
// blkio-controller.rst).
func TestCountersOfBothVersions(t *testing.T) {
	t.Parallel()
	write := func(files map[string]string) []string {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return []string{t.TempDir(), dir}
	}
	v2 := write(map[string]string{
		"cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
		"io.stat":  "8:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=3 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
	})
	v1 := write(map[string]string{
		"cpuacct.usage":                   "2500000000\n",
		"blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 23\n8:0 Total 123\nTotal 123\n",
	})
	for name, groups := range map[string][]string{"version 2": v2, "version 1": v1} {
		if got, ok := groupCPU(groups); !ok || time.Duration(got) != 2500*time.Millisecond {
			t.Errorf("%s: processors: got %d, %v", name, got, ok)
		}
		if got, ok := groupIO(groups); !ok || got != 123 {
			t.Errorf("%s: bytes: got %d, %v", name, got, ok)
		}
	}
	if _, ok := groupIO(nil); ok {
		t.Error("without a group: got a count")
	}
}

func FuzzTextForTerminals(f *testing.F) {
	f.Add("the session ends in 15 min\x1b[2J\n\u009b")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range plain.Line(text) {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				t.Errorf("%q: got the character %d", text, r)
			}
		}
	})
}
