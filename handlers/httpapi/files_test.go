package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

// requester makes requests of the API of an instance, and holds the answers against the
// description.
type requester struct {
	t *testing.T
	h http.Handler
}

func (c requester) send(method, url string, body []byte, header ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, url, bytes.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	check(c.t, r, w.Result())
	return w
}

func (c requester) ask(method, url string, body []byte, status int, has string) {
	c.t.Helper()
	if w := c.send(method, url, body); w.Code != status || !strings.Contains(w.Body.String(), has) {
		c.t.Errorf("%s %s: got %d %s; want %d and %s", method, url, w.Code, w.Body, status, has)
	}
}

func (c requester) missing(q wire.TreeQuestion) wire.TreeAnswer {
	c.t.Helper()
	body, _ := json.Marshal(q)
	w := c.send("POST", "/api/files/missing", body)
	var answer wire.TreeAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		c.t.Fatal(w.Code, w.Body, err)
	}
	return answer
}

// onePack is a pack of contents, and where it goes.
func onePack(t testing.TB, contents ...string) (url string, body []byte) {
	t.Helper()
	var p tree.Packer
	for _, c := range contents {
		if err := p.Add(tree.HashOf([]byte(c)), []byte(c)); err != nil {
			t.Fatal(err)
		}
	}
	h, body := p.Finish()
	return "/api/files/packs/" + h.String(), body
}

func treeURL(body []byte) string { return "/api/files/trees/" + tree.HashOf(body).String() }

func TestATreeIsSentAndKept(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	c := requester{t, serve(app)}
	a, b := tree.HashOf([]byte("alpha")), tree.HashOf([]byte("beta"))
	list := tree.Tree{{Path: "a", Mode: tree.ModePlain, Size: 5, Blobs: []tree.Hash{a}}, {Path: "b", Mode: tree.ModeProgram, Size: 4, Blobs: []tree.Hash{b}},
		{Path: "empty", Mode: tree.ModePlain}, {Path: "link", Link: "a"}}
	body := list.Encode()
	q := wire.TreeQuestion{Trees: []tree.Hash{tree.HashOf(body)}, Blobs: []tree.Hash{a, b}}
	got := c.missing(q)
	if len(got.Trees) != 1 || len(got.Blobs) != 2 || got.MaxBytes != tree.DefaultMaxBytes || got.MaxFiles != tree.DefaultMaxFiles {
		t.Errorf("at first: %+v", got)
	}
	url, pack := onePack(t, "alpha")
	c.ask("PUT", url, pack, 201, `"name":"`)
	c.ask("PUT", url, pack, 201, `"name":"`)
	if got := c.missing(q); len(got.Trees) != 1 || len(got.Blobs) != 1 || got.Blobs[0] != b {
		t.Errorf("after the first pack: %+v", got)
	}
	c.ask("PUT", treeURL(body), body, 409, `"missing":["`+b.String()+`"]`)
	url, pack = onePack(t, "beta", "gamma")
	c.ask("PUT", url, pack, 201, ``)
	c.ask("PUT", treeURL(body), body, 201, `"name":"tree:sha256:`)
	c.ask("PUT", treeURL(body), body, 201, `"name":"tree:sha256:`)
	if got := c.missing(q); len(got.Trees)+len(got.Blobs) != 0 {
		t.Errorf("at the end: %+v", got)
	}
	// Another process of the app finds all of it on the share.
	other := requester{t, serve(apptest.New(t, func(s *service.Config) { s.Share = app.Share }))}
	if got := other.missing(q); len(got.Trees)+len(got.Blobs) != 0 {
		t.Errorf("another process: %+v", got)
	}
	// What somebody has removed from the share is missing, and nothing else is.
	if err := os.Remove(filepath.Join(app.Share, "synced", "packs", strings.TrimPrefix(url, "/api/files/packs/"))); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(touchedAgain))
	if got := c.missing(q); len(got.Trees) != 1 || len(got.Blobs) != 1 || got.Blobs[0] != b {
		t.Errorf("after a pack was removed: %+v", got)
	}
}

// touchedAgain is more than the time within which nothing can go from the share.
const touchedAgain = 2 * 60 * 60 * 1e9

func TestTreesAndPacksThatAreRefused(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	c := requester{t, serve(app)}
	url, pack := onePack(t, "alpha")
	c.ask("PUT", url, pack, 201, "")
	one := tree.HashOf([]byte("alpha")).String()
	zeros := strings.Repeat("0", 64)

	c.ask("PUT", "/api/files/packs/"+zeros, pack, 400, "another SHA-256")
	c.ask("PUT", "/api/files/packs/nothing", pack, 400, "is no SHA-256")
	for _, bad := range [][]byte{nil, []byte("x"), pack[:len(pack)-1], bytes.Replace(pack, []byte("alpha"), []byte("alphb"), 1)} {
		c.ask("PUT", "/api/files/packs/"+tree.HashOf(bad).String(), bad, 400, "is no pack that can be used")
	}
	c.ask("PUT", "/api/files/packs/"+zeros, make([]byte, tree.MaxPackBytes+1), 413, "more than 20971520 bytes")
	c.ask("PUT", "/api/files/trees/"+zeros, make([]byte, tree.MaxTreeBytes+1), 413, "more than 8388608 bytes")
	c.ask("PUT", "/api/files/trees/"+zeros, []byte("[]"), 400, "another SHA-256")
	for body, want := range map[string]string{
		`[{"p":"../x","m":"644","s":5,"h":["` + one + `"]}]`:          "../x",
		`[{"p":"/etc/cron.d/x","m":"644","s":5,"h":["` + one + `"]}]`: "/etc/cron.d/x",
		`[{"p":"l","l":"/etc"},{"p":"l/x","m":"644"}]`:                "leads to",
		`[{"p":"x","m":"644","s":4,"h":["` + one + `"]}]`:             "another size",
		`[{"p":"x","m":"644","s":900000000000,"h":["` + one + `"]}]`:  "1 hashes",
		`{"p":"x"}`: "cannot be read",
	} {
		c.ask("PUT", treeURL([]byte(body)), []byte(body), 400, want)
	}
	for _, bad := range []string{``, `[]`, `{"blobs":["x"]}`, `{"blob":[]}`, `{} {}`} {
		c.ask("POST", "/api/files/missing", []byte(bad), 400, "cannot be read")
	}
	many, _ := json.Marshal(wire.TreeQuestion{Blobs: make([]tree.Hash, wire.MaxHashes+1)})
	c.ask("POST", "/api/files/missing", many, 400, "at most 10000 at once")
	small := requester{t, serve(apptest.New(t, func(s *service.Config) { s.Share, s.Trees = app.Share, tree.Limits{Bytes: 4, Files: 10} }))}
	body := []byte(`[{"p":"x","m":"644","s":5,"h":["` + one + `"]}]`)
	small.ask("PUT", treeURL(body), body, 400, "MiB")
}

// A job puts things in the place of packs and trees: nothing hangs, nothing outside is
// read, and what is no pack counts as missing.
func TestThingsInThePlaceOfPacks(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	url, pack := onePack(t, "alpha")
	name := filepath.Join(app.Share, "synced", "packs", strings.TrimPrefix(url, "/api/files/packs/"))
	outside := filepath.Join(t.TempDir(), "pack")
	if err := os.WriteFile(outside, pack, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]func() error{
		"a link":   func() error { return os.Symlink(outside, name) },
		"a folder": func() error { return os.Mkdir(name, 0o700) },
		"garbage":  func() error { return os.WriteFile(name, []byte("garbage"), 0o600) },
	} {
		os.RemoveAll(name)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		c := requester{t, serve(apptest.New(t, func(s *service.Config) { s.Share = app.Share }))}
		if got := c.missing(wire.TreeQuestion{Blobs: []tree.Hash{tree.HashOf([]byte("alpha"))}}); len(got.Blobs) != 1 {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// outputs is an instance with a job that has one attempt, and the folder of its output.
func outputs(t *testing.T) (c requester, folder string) {
	app := apptest.New(t)
	c = requester{t, serve(app)}
	post := func(url, body string) {
		t.Helper()
		if w := c.send("POST", url, []byte(body), "Content-Type", "application/json"); w.Code >= 300 {
			t.Fatal(w.Code, w.Body)
		}
	}
	post("/api/pools", `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`)
	post("/api/jobs", `{"id":"waiting","pool":"cpu","command":["true"],"notBefore":"2999-01-01T00:00:00Z"}`)
	post("/api/jobs", `{"id":"one","pool":"cpu","command":["true"]}`)
	ready := protocol.Report{V: protocol.Version, Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Ready: &protocol.Ready{
		Name: "dsvm-cpu-1", Boot: "b", Size: "Standard_D2s_v5", CPUs: 2}}}}
	if err := app.Nodes.Report(t.Context(), "cpu", []service.Report{{Report: ready, At: app.Clock.Now()}}); err != nil {
		t.Fatal(err)
	}
	j, err := app.Jobs.Job(t.Context(), "one")
	if err != nil || j.AttemptCount() != 1 {
		t.Fatal(j, err)
	}
	return c, filepath.Join(app.Share, "jobs", "cpu", "one", "1", "output")
}

func TestFilesOfAJob(t *testing.T) {
	t.Parallel()
	c, folder := outputs(t)
	const files = "/api/jobs/one/files"
	c.ask("GET", files, nil, 200, `{"items":[]}`)
	c.ask("GET", "/api/jobs/waiting/files", nil, 404, "has not started")
	c.ask("GET", "/api/jobs/none/files", nil, 404, "")
	outside := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(folder, "sub", "deep"), 0o755),
		os.WriteFile(filepath.Join(folder, "model.pt"), []byte("0123456789"), 0o644),
		os.WriteFile(filepath.Join(folder, "run.sh"), nil, 0o755),
		os.WriteFile(filepath.Join(folder, "sub", "deep", "a b%c#ü?.txt"), []byte("odd"), 0o644),
		os.WriteFile(outside, []byte("secret"), 0o644),
		os.Symlink(outside, filepath.Join(folder, "link")),
		os.Symlink(filepath.Dir(outside), filepath.Join(folder, "out")),
		os.Symlink("sub", filepath.Join(folder, "inside")),
		os.Link(outside, filepath.Join(folder, "second")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w := c.send("GET", files, nil)
	var got []string
	var list wire.List[wire.File]
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list.Items {
		got = append(got, fmt.Sprintf("%s:%s:%d:%v", f.Name, f.Kind, f.Size, f.Executable))
	}
	want := "inside:link:0:false link:link:0:false model.pt:file:10:false out:link:0:false run.sh:file:0:true second:other:0:false sub:folder:0:false"
	if strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.ask("GET", files+"?limit=2", nil, 200, `"continue":"link"`)
	c.ask("GET", files+"?limit=2&continue=run.sh", nil, 200, `"name":"second"`)
	c.ask("GET", files+"?path=sub/deep/", nil, 200, `"name":"a b%c#ü?.txt"`)
	c.ask("GET", files+"/sub/deep/a%20b%25c%23%C3%BC%3F.txt", nil, 200, "odd")
	c.ask("GET", files+"/sub%2Fdeep%2Fa%20b%25c%23%C3%BC%3F.txt", nil, 200, "odd")
	for _, path := range []string{"none", "sub", "link", "out/secret", "inside/deep", "second", "model.pt/x"} {
		c.ask("GET", files+"/"+path, nil, 404, "job")
	}
	c.ask("GET", files+"/%2e%2e%2f%2e%2e%2fx", nil, 400, "has a part")
	c.ask("GET", files+"/%2fetc%2fpasswd", nil, 400, "is absolute")
	c.ask("GET", files+"?path=../..", nil, 400, "has a part")
	c.ask("GET", files+"?path=out", nil, 404, "has no")
	c.ask("GET", files+"?path=model.pt", nil, 404, "has no")
	c.ask("GET", files+"?attempt=2", nil, 404, `has no attempt 2; its last one is 1`)

	whole := c.send("GET", files+"/model.pt", nil)
	tag := whole.Header().Get("ETag")
	if whole.Body.String() != "0123456789" || tag == "" || !strings.HasPrefix(whole.Header().Get("Content-Disposition"), "attachment") ||
		whole.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %s %v", whole.Body, whole.Header())
	}
	for _, p := range []struct {
		header []string
		status int
		body   string
	}{
		{[]string{"Range", "bytes=4-", "If-Match", tag}, 206, "456789"},
		{[]string{"Range", "bytes=2-3"}, 206, "23"},
		{[]string{"Range", "bytes=8-100"}, 206, "89"},
		{[]string{"Range", "bytes=10-"}, 416, "the file has 10 bytes"},
		{[]string{"Range", "bytes=5-2"}, 200, "0123456789"},
		{[]string{"Range", "bytes=0-1,4-5"}, 200, "0123456789"},
		{[]string{"Range", "lines=1-"}, 200, "0123456789"},
		{[]string{"Range", "bytes=4-", "If-Match", `"other"`}, 412, "has changed"},
		{[]string{"If-None-Match", tag}, 304, ""},
	} {
		if w := c.send("GET", files+"/model.pt", nil, p.header...); w.Code != p.status || !strings.Contains(w.Body.String(), p.body) {
			t.Errorf("%v: got %d %s, want %d %s", p.header, w.Code, w.Body, p.status, p.body)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "model.pt"), []byte("another one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if w := c.send("GET", files+"/model.pt", nil, "Range", "bytes=4-", "If-Match", tag); w.Code != 412 {
		t.Errorf("a file that has changed: %d %s", w.Code, w.Body)
	}
}
