package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/wire"
)

// now has the command line live at the same time as its server, for the clock.
func (b *bench) now() *bench {
	b.program.Now = time.Now
	return b
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	b := newBench(t).now()
	code, out, errs := b.run("doctor")
	if code != 0 || errs != "" {
		t.Errorf("got code %d and %q", code, errs)
	}
	for _, want := range []string{"CHECK", "address", "without a key      ok", "with the key", "clock here", "tables", "queue work", "share", "nodes"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "What to do") {
		t.Errorf("there is something to do in\n%s", out)
	}
}

// A check that failed is shown with what mends it, and ends the command with 1.
func TestDoctorFindsAFault(t *testing.T) {
	t.Parallel()
	b := newBench(t).now()
	b.app.Fleet.Fail(fault.New(fault.Invalid, "", "Azure answered ImageNotFound: no such image"))
	code, out, _ := b.run("doctor")
	if code != 1 || !strings.Contains(out, "What to do:\n") || !strings.Contains(out, "nodes: Azure answered ImageNotFound: no such image\n  -> az vm image list") {
		t.Errorf("got code %d and\n%s", code, out)
	}
	b = newBench(t).now()
	b.app.Fleet.Fail(fault.New(fault.Invalid, "", "Azure answered ImageNotFound: no such image"))
	code, out, _ = b.run("doctor", "-o", "json")
	var rows wire.List[wire.Check]
	if err := json.Unmarshal([]byte(out), &rows); code != 1 || err != nil || len(rows.Items) < 15 {
		t.Errorf("got code %d, %v and\n%s", code, err, out)
	}
}

// What is seen from outside needs no answer from inside.
func TestDoctorFromOutside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		code  int
		want  []string
	}{
		"wrong key": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, 1,
			[]string{"with the key   failed", "az functionapp keys list"}},
		"open to all": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"items":[]}`)) }, 1,
			[]string{"without a key  failed", "authLevel"}},
		"no functions": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, 1,
			[]string{"without a key  unknown", "with the key   failed", "az functionapp function list"}},
		"another time": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", "Mon, 02 Mar 2020 12:00:00 GMT")
			w.WriteHeader(http.StatusUnauthorized)
		}, 1, []string{"clock here     failed", "NTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t).now()
			web := httptest.NewServer(test.serve)
			t.Cleanup(web.Close)
			b.program.Getenv = func(name string) string { return map[string]string{"DSVM_URL": web.URL, "DSVM_KEY": "k"}[name] }
			code, out, errs := b.run("doctor")
			if code != test.code {
				t.Errorf("got code %d and %q", code, errs)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
	b := newBench(t)
	b.program.Getenv = func(name string) string { return map[string]string{"DSVM_URL": "http://127.0.0.1:9"}[name] }
	if code, out, _ := b.run("doctor"); code != 1 || !strings.Contains(out, "address  failed") || !strings.Contains(out, "refused") {
		t.Errorf("nothing there: got code %d and\n%s", code, out)
	}
}

// With --check nothing is applied that Azure refuses, and what it says is shown.
func TestApplyChecksFirst(t *testing.T) {
	t.Parallel()
	const document = `{"name":"new","sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`
	b := newBench(t)
	b.program.In = strings.NewReader(document)
	if code, out, errs := b.run("pool", "apply", "-f", "-", "--check"); code != 0 || out != "new\n" ||
		!strings.Contains(errs, "dsvm: Standard_D2s_v5: ok") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	b = newBench(t)
	b.app.Fleet.Refuse("new", fault.New(fault.Invalid, "", "Azure answered InvalidResourceReference: no subnet"))
	b.program.In = strings.NewReader(document)
	code, out, errs := b.run("pool", "apply", "-f", "-", "--check")
	if code != 1 || out != "" || !strings.Contains(errs, "Standard_D2s_v5: failed: Azure answered InvalidResourceReference: no subnet\n  -> ") ||
		!strings.Contains(errs, "nothing was applied") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if _, err := b.app.Pools.Pools(t.Context(), "new"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("the pool is there (%v)", err)
	}
}

func TestNodeConsole(t *testing.T) {
	t.Parallel()
	if code, out, errs := newBench(t).run("node", "console", "dsvm-cpu-d2s-v5_1"); code != 0 || out != "[  OK  ] dsvm-cpu-d2s-v5_1 login:\n" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	code, out, _ := newBench(t).run("node", "console", "dsvm-cpu-d2s-v5_1", "-o", "json")
	var got consoleText
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || got.Node != "dsvm-cpu-d2s-v5_1" || !strings.Contains(got.Log, "login") {
		t.Errorf("got %d %v %q", code, err, out)
	}
	if code, _, errs := newBench(t).run("node", "console", "none"); code != 1 || !strings.Contains(errs, "dsvm node list") {
		t.Errorf("no such node: got %d %q", code, errs)
	}
}

// A node that boots shows what it waits for.
func TestNodeListShowsTheStage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.report("cpu-9", protocol.ReportItem{Booting: &protocol.Booting{
		Stage: protocol.StageShare, Reason: "mount error(13)", Boot: "b", Name: "dsvm-cpu-d2s-v5_9", Size: "Standard_D2s_v5",
	}})
	code, out, errs := b.run("node", "list", "--pool", "cpu")
	if code != 0 || !strings.Contains(out, "waits for the share: mount error(13)") {
		t.Errorf("got %d %q and\n%s", code, errs, out)
	}
}

// A node writes what it likes, and the terminal must not obey it.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                  "",
		"\x1b[32m  OK  \x1b[0m started\r\n": "  OK   started\n",
		"\x1b]0;title\x07a\x1b[2Jb":         "ab\n",
		"\x1b]52;c;ZXZpbA==\x1b\\x":         "x\n",
		"a\u202eb\x00\x07\xffc\td":          "ab?c\td\n",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
