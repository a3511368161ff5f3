//go:build unix

package source

import (
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
)

// leads answers a batch with one address for every file.
func leads(to string, header map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Objects []largeFile }
		json.NewDecoder(r.Body).Decode(&asked)
		var objects []any
		for _, a := range asked.Objects {
			objects = append(objects, map[string]any{"oid": a.OID, "size": a.Size, "actions": map[string]any{"download": lfsAction{to, header}}})
		}
		json.NewEncoder(w).Encode(map[string]any{"objects": objects})
	}
}

// TestLargeFilesInside: a server of large files sends the agent to what is inside, by an
// address, a name and a redirect, and learns nothing.
func TestLargeFilesInside(t *testing.T) {
	t.Parallel()
	gittest.Needs(t, "git-lfs")
	const content = "the weights of a model"
	s, came := inside(t, "127.0.0.2:0")
	o := gittest.New(t)
	commit, _ := o.CommitLarge(content)
	source := o.Source(commit)
	source.LFS = true
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	redirect := http.RedirectHandler(s.URL+"/x", http.StatusFound)
	for name, large := range map[string]http.HandlerFunc{
		"an address": leads(s.URL+"/x", map[string]string{"Metadata": "true"}), "a mapped address": leads("http://[::ffff:127.0.0.2]:"+port,
			nil), "https": leads("https://127.0.0.2:"+port, nil),
		"metadata":                leads("http://169.254.169.254/metadata", map[string]string{"Metadata": "true"}),
		"a redirect of the batch": redirect.ServeHTTP,
		"a redirect of the file": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				redirect.ServeHTTP(w, r)
				return
			}
			leads(o.URL+"/lfs/x", nil)(w, r)
		},
	} {
		o.Large = large
		f := fetcherOf(t, config(t), *source)
		_, err := f.into(t, "w")
		if refused := (*outbound.RefusedError)(nil); !errors.As(err, &refused) || came.Load() > 0 {
			t.Errorf("%s: got %v, and the server inside was reached %d times", name, err, came.Load())
		}
		if text := details(err); strings.Contains(text, "inner-secret") || strings.Contains(text, "127.0.0.2") {
			t.Errorf("%s: it is said %q", name, text)
		}
	}
}

// TestLargeFilesTogether: the large files of a commit have a bound together, and not
// only each of them.
func TestLargeFilesTogether(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sizes []int64
		most  job.Bytes
		fits  bool
	}{
		"none":                {nil, 100, true},
		"exactly":             {[]int64{60, 40}, 100, true},
		"each fits, not both": {[]int64{60, 41}, 100, false},
		"one alone":           {[]int64{101}, 100, false},
		"no bound":            {[]int64{math.MaxInt64, math.MaxInt64}, 0, true},
		"no overflow":         {[]int64{math.MaxInt64, math.MaxInt64}, 100, false},
	} {
		var files []largeFile
		for _, size := range test.sizes {
			files = append(files, largeFile{Size: size})
		}
		if err := checkTotal(files, test.most); (err == nil) != test.fits {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestLargeFilesWrong: what is not the file that was wanted is not taken for it, and bad
// luck is tried again.
func TestLargeFilesWrong(t *testing.T) {
	t.Parallel()
	gittest.Needs(t, "git-lfs")
	const content = "the weights of a model"
	o := gittest.New(t)
	commit, _ := o.CommitLarge(content)
	source := o.Source(commit)
	source.LFS = true
	text, code := content, http.StatusOK
	var asked, unlucky atomic.Int64
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			leads(o.URL+"/lfs/x", nil)(w, r)
			return
		}
		if asked.Add(1) <= unlucky.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(code)
		w.Write([]byte(text))
	}
	try := func() error {
		asked.Store(0)
		_, err := fetcherOf(t, config(t), *source).into(t, "w")
		return err
	}
	o.Large = answer
	unlucky.Store(1)
	if err := try(); err != nil || asked.Load() != 2 {
		t.Errorf("a bad moment: got %v after %d tries", err, asked.Load())
	}
	unlucky.Store(0)
	code = http.StatusForbidden
	if err := try(); err == nil || !strings.Contains(err.Error(), "answers 403") || asked.Load() > 2 { // the cache is made again once
		t.Errorf("no right: got %v after %d tries", err, asked.Load())
	}
	code = http.StatusOK
	for _, text = range []string{"other weights of models", content + "x", ""} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "is not it") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for name, test := range map[string]struct {
		large http.HandlerFunc
		want  string
	}{
		"no JSON":    {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, "not its protocol"},
		"nothing":    {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }, "says nothing of the large file"},
		"no address": {leads(":", nil), "the source cannot be fetched"},
		"a file":     {leads("file:///etc/passwd", nil), "not https"},
	} {
		o.Large = test.large
		if err := try(); err == nil || test.want != "the source cannot be fetched" && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzPointers: whatever git-lfs lists, a name is one, and stands once.
func FuzzPointers(f *testing.F) {
	f.Add("filepath: w.bin\n    size: 22\ncheckout: true\n     oid: sha256 " + strings.Repeat("ab", 32) + "\n version: x\n")
	f.Add("size: -1\noid: sha256 ..")
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[string]bool{}
		for _, file := range parsePointers(text) {
			if !lfsName.MatchString(file.OID) || file.Size < 0 || seen[file.OID] {
				t.Fatalf("got %+v", file)
			}
			seen[file.OID] = true
		}
	})
}
