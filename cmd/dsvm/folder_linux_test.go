package main

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/agent/source"
	"dsvmpools/cmd/dsvm/workfolder"
	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
)

// Some thousand files with odd names are listed, sent and unfolded by the real parts, and
// are on the node as they were here; also where jobs run as another user.
func TestFoldersArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	web := httptest.NewServer(httpapi.New(httpapi.Services{Trees: app.Trees}, app.Share, slog.New(slog.DiscardHandler)))
	t.Cleanup(web.Close)
	c, err := client.New(web.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	fillFolder(t, folder, 4000)
	found, err := workfolder.List(t.Context(), folder, workfolder.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var files []client.TreeFile
	for _, f := range found.Files {
		files = append(files, client.TreeFile{Path: f.Path, Program: f.Program, Link: f.Link, Open: func() (io.ReadCloser, error) {
			return os.Open(filepath.Join(folder, filepath.FromSlash(f.Path)))
		}})
	}
	sent, err := c.SendTree(t.Context(), files, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := describeFolder(t, folder)
	if sent.Files != len(want) || len(want) < 3000 {
		t.Errorf("%d of %d files were sent", sent.Files, len(want))
	}
	fetcher, err := source.New(source.Config{Dir: filepath.Join(t.TempDir(), "sources"), Share: app.Share, Timeout: time.Minute, CacheSize: job.Gi})
	if err != nil {
		t.Fatal(err)
	}
	users := []*syscall.Credential{nil}
	if os.Geteuid() == 0 {
		users = append(users, &syscall.Credential{Uid: 65534, Gid: 65534})
	}
	for _, as := range users {
		dir := filepath.Join(t.TempDir(), "source")
		if _, err := fetcher.Place(t.Context(), source.Request{Source: job.Source{Tree: sent.Name}, Dir: dir, As: as}); err != nil {
			t.Fatal(err)
		}
		got := describeFolder(t, dir)
		for name, is := range want {
			if got[name] != is {
				t.Errorf("%q is %.80q, want %.80q", name, got[name], is)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d files arrived, want %d", len(got), len(want))
		}
		if as == nil {
			continue
		}
		if err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			at, err := e.Info()
			if err == nil && at.Sys().(*syscall.Stat_t).Uid != as.Uid {
				t.Errorf("%s belongs to another user", name)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// fillFolder makes files of all kinds.
func fillFolder(t *testing.T, folder string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	names := []string{"a", "A", "größe", "日本", " ", "-rf", "*", "%2F", "#", "x:y", "\t", "'\"", ".hidden", "con", "emoji-\U0001F600"}
	dirs := []string{folder}
	for i := range n {
		name := filepath.Join(dirs[r.IntN(len(dirs))], names[r.IntN(len(names))]+fmt.Sprint(i))
		var err error
		switch r.IntN(12) {
		case 0:
			if strings.Count(name, "/") < 30 {
				err = os.Mkdir(name, 0o755)
				dirs = append(dirs, name)
			}
		case 1:
			err = os.Symlink("somewhere", name)
		default:
			size := []int{0, 1, 100, r.IntN(20_000)}[r.IntN(4)]
			if i%1500 == 0 {
				size += 9 << 20
			}
			body := make([]byte, size)
			for k := range min(size, 20_000) {
				body[k] = byte(r.Uint32())
			}
			mode := fs.FileMode(0o644)
			if r.IntN(5) == 0 {
				mode = 0o755
			}
			err = os.WriteFile(name, body, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// describeFolder says what each file of a folder is.
func describeFolder(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(folder, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		below, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		if e.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			all[below] = "-> " + target
			return err
		}
		at, err := e.Info()
		if err != nil {
			return err
		}
		body, err := os.ReadFile(name)
		all[below] = at.Mode().Perm().String() + string(body)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
