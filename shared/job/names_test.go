package job_test

import (
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

func TestPortable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"CON": false, "con": false, "Con": false, "nul": false, "NUL": false, "prn": false, "aux": false, "AUX.log": false, "nul.txt": false, "nul.tar.gz": false, "nul.": false, "con.0": false,
		"com1": false, "COM9": false, "com0": false, "lpt1": false, "LPT9.x": false, "lpt0": false, "clock$": false, "CONIN$": false, "conout$.x": false, "nul .txt": false,
		"": false, ".": false, "..": false, "a.": false, "a..": false, "a ": false, "...": false,
		"console": true, "nul1": true, "null": true, "com10": true, "com": true, "lpt": true, "a.nul": true, "x-con": true, "con-1": true, "_nul": true, ".nul": true, "auxiliary": true, "a.b": true, "nightly-1": true,
	} {
		if got := job.Portable(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

// TestUnportableIDs: a new job gets no id that the share cannot hold, and old ones are
// still found.
func TestUnportableIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"nul", "CON", "com1.txt", "x.", "aux.0"} {
		_, err := job.Parse(fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["x"]}`, id), "application/json")
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "Azure Files and Windows keep") {
			t.Errorf("%s: got %v", id, err)
		}
		if err := job.CheckID(id); err != nil {
			t.Errorf("%s is not found any more: %v", id, err)
		}
	}
	if _, err := job.Parse([]byte(`{"id":"A","pool":"cpu","command":["x"],"after":["a"]}`), "application/json"); err == nil ||
		!strings.Contains(err.Error(), "the job itself") {
		t.Errorf("after itself in another spelling: got %v", err)
	}
}

// FuzzNewID: whatever passes can be a folder, of a name that means one thing.
func FuzzNewID(f *testing.F) {
	for _, id := range []string{"nul", "CON.txt", "a.", "..", "COM¹", "x", "aux .b"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if job.CheckNewID(id) != nil {
			return
		}
		base, _, _ := strings.Cut(strings.ToUpper(id), ".")
		for _, device := range strings.Fields("CON PRN AUX NUL COM1 COM2 COM3 COM4 COM5 COM6 COM7 COM8 COM9 LPT1 LPT2 LPT3 LPT4 LPT5 LPT6 LPT7 LPT8 LPT9") {
			if base == device {
				t.Fatalf("%q is a device", id)
			}
		}
		if strings.ContainsAny(id, `<>:"/\|?* `+"\x00\t\n") || strings.HasSuffix(id, ".") || len(id) > 100 {
			t.Fatalf("%q is no name of a folder", id)
		}
	})
}

func TestCheckPool(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"cpu": true, "a": true, "gpu-2": true, "-": true, strings.Repeat("a", 24): true,
		"": false, strings.Repeat("a", 25): false, "CPU": false, "a b": false, "a'b": false, "a\n": false, "ä": false, "a/b": false, "a!": false,
	} {
		err := job.CheckPool("pools[1]", name)
		if (err == nil) != want {
			t.Errorf("%q: got %v", name, err)
		}
		if err != nil && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "`pools[1]` is ")) {
			t.Errorf("%q: got %v, want Invalid about pools[1]", name, err)
		}
	}
}
