package person

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The folder of a person is made in the folder notebooks, and not where somebody has made a link
// of that name lead to.
func TestShareFolderFollowsNoLink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin func(share string) error
		want  string // part of the error; "" = it is made
	}{
		"nothing is there": {func(string) error { return nil }, ""},
		"a folder":         {func(share string) error { return os.MkdirAll(filepath.Join(share, "notebooks/ann"), 0o755) }, ""},
		"a link to a folder": {func(share string) error {
			return errors.Join(os.Mkdir(filepath.Join(share, "bobs"), 0o755), os.Symlink("bobs", filepath.Join(share, "notebooks")))
		}, "is a link"},
		"a link to outside": {func(share string) error { return os.Symlink(t.TempDir(), filepath.Join(share, "notebooks")) }, "no folder"},
		"a file":            {func(share string) error { return os.WriteFile(filepath.Join(share, "notebooks"), nil, 0o600) }, "no folder"},
		"a link of the person's name": {func(share string) error {
			return errors.Join(os.Mkdir(filepath.Join(share, "notebooks"), 0o755), os.Symlink("..", filepath.Join(share, "notebooks/ann")))
		}, "no folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			if err := c.begin(share); err != nil {
				t.Fatal(err)
			}
			k := &keeper{plan: Plan{Share: share, User: "ann", UID: 200101}}
			err := k.makeShareFolder()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if at, err := os.Lstat(filepath.Join(share, "notebooks/ann")); c.want == "" && (err != nil || !at.IsDir()) {
				t.Errorf("the folder: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(share, "bobs/*")); left != nil {
				t.Errorf("made where the link leads to: %v", left)
			}
		})
	}
}

// The keeper, which is root, speaks to a JupyterLab of its person's and to nobody else's socket.
func TestLabOfThePerson(t *testing.T) {
	t.Parallel()
	run, err := os.MkdirTemp("", "run") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	p := Plan{Run: run, UID: os.Getuid()}
	if err := os.Mkdir(p.labDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", p.LabSocket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := p.dialLab(t.Context(), "", "")
	if err != nil {
		t.Fatalf("the person's own: %v", err)
	}
	c.Close()
	p.UID++
	if c, err := p.dialLab(t.Context(), "", ""); err == nil {
		c.Close()
		t.Error("a socket of another user is spoken to")
	}
}
