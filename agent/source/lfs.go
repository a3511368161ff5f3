package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"dsvmpools/agent/startfault"
)

// lfsName is the name of a large file's content.
var lfsName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// checkingOut puts large files that are in a work tree's own store into their
// places. Its standard input is an archive of that store, its argument the tree.
const checkingOut = `set -e
cd -- "$1"
mkdir -p .git/lfs/objects
tar -xf - -C .git/lfs/objects
git lfs install --local --skip-repo >/dev/null
git lfs checkout >/dev/null
`

// placeLargeFiles puts the large files of a commit into a work tree: the agent fetches them
// into the cache, and git-lfs of the job's user takes them out of a pipe, as with
// the work tree itself.
func (a *attempt) placeLargeFiles(ctx context.Context, dir, repository, commit, tree string) error {
	if err := a.fetchLarge(ctx, dir, repository, commit); err != nil {
		return err
	}
	var out bounded
	if err := a.gitInCache(ctx, dir, &out, "lfs", "ls-files", "--long", commit); err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		name, _, _ := strings.Cut(line, " ")
		if lfsName.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	packed := make(chan error, 1)
	go func() {
		packed <- writeArchive(to, filepath.Join(dir, "lfs", "objects"), names)
		to.Close()
	}()
	err = gitRun{key: a.Key, name: "sh", args: []string{"-c", checkingOut, "sh", tree}, dir: "/", as: a.As, in: from, env: nowhere}.run(ctx)
	from.Close()
	if failed := <-packed; err == nil {
		err = failed
	}
	return err
}

// writeArchive writes large files of a cache as they lie in a store.
func writeArchive(to io.Writer, store string, names []string) error {
	w := tar.NewWriter(to)
	written := map[string]bool{}
	for _, name := range names {
		if written[name] {
			continue
		}
		written[name] = true
		place := filepath.Join(name[:2], name[2:4], name)
		f, err := os.Open(filepath.Join(store, place))
		if err != nil {
			return fmt.Errorf("a large file has not come: %w", startfault.Innermost(err))
		}
		at, err := f.Stat()
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: place, Size: at.Size(), Mode: 0o444, Typeflag: tar.TypeReg})
		}
		if err == nil {
			_, err = io.Copy(w, f)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return w.Close()
}

// errNoLFS is a node without git-lfs.
var errNoLFS = errors.New("git-lfs is not installed on this node, and the source has `lfs`; " +
	"install git-lfs in the pool's image or setup, or leave `lfs` out")
