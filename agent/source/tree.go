package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

// Modes of what is unfolded.
const (
	folderMode  = 0o755
	plainMode   = 0o644
	programMode = 0o755
)

// anySize is no bound: the app has checked the bounds when the tree was sent.
var anySize = tree.Limits{Bytes: 1 << 50, Files: 1 << 30}

// chunk is where a blob goes: a part of a file.
type chunk struct {
	entry *tree.Entry
	index int
}

// placeTree unfolds the attempt's tree into its work tree. The error is a
// startfault.Fault.
func (a *attempt) placeTree(ctx context.Context) error {
	h, _ := tree.ParseName(a.Source.Tree) // checked with the assignment
	list, packs, err := a.packs.readTree(h)
	if err != nil {
		return err
	}
	u, err := a.unfold(list)
	if err != nil {
		return err
	}
	defer u.root.Close()
	needed := map[tree.Hash][]chunk{}
	for i := range list {
		if ctx.Err() != nil { // a tree may have very many folders
			return context.Cause(ctx)
		}
		if err := u.prepare(&list[i], needed); err != nil {
			return err
		}
	}
	for _, p := range packs {
		if len(needed) == 0 {
			break
		}
		err := a.packs.eachBlob(ctx, p, func(b tree.Blob) bool { return needed[b.Hash] != nil }, func(b tree.Blob, content []byte) error {
			for _, c := range needed[b.Hash] {
				if err := u.write(c, content); err != nil {
					return err
				}
			}
			delete(needed, b.Hash)
			return nil
		})
		if err != nil {
			if errors.Is(err, errShareDamaged) {
				a.packs.setAside(treestore.Tree, h)
			}
			return err
		}
	}
	if n := len(needed); n > 0 {
		a.packs.setAside(treestore.Tree, h)
		return startfault.New(job.CauseShare, "the share has lost %d parts of the job's folder; submit the job again with --sync", n)
	}
	return u.finish(ctx)
}

// unfolding makes the files of one tree.
type unfolding struct {
	root    *os.Root
	owner   *owner
	folders map[string]bool // that are there
	links   []tree.Entry    // made last: nothing is ever written through one
}

// owner is the user that gets the files; nil = they stay with the agent's.
type owner struct{ uid, gid int }

// unfold makes the work tree, empty.
func (a *attempt) unfold(list tree.Tree) (*unfolding, error) {
	u := &unfolding{folders: make(map[string]bool, len(list)/4), links: nil}
	if uid, gid := process.NumbersOf(a.As); uid >= 0 {
		u.owner = &owner{uid, gid}
	}
	above, err := os.OpenRoot(filepath.Dir(a.Dir))
	if err != nil {
		return nil, onDisk(err)
	}
	defer above.Close()
	name := filepath.Base(a.Dir)
	if err := above.RemoveAll(name); err != nil { // of an attempt that was killed while it was prepared
		return nil, onDisk(err)
	}
	if err := above.Mkdir(name, folderMode); err != nil {
		return nil, onDisk(err)
	}
	if u.root, err = above.OpenRoot(name); err != nil {
		return nil, onDisk(err)
	}
	if err := u.give("."); err != nil {
		u.root.Close()
		return nil, err
	}
	return u, nil
}

// onDisk is an error of the node's disk.
func onDisk(err error) error {
	return startfault.New(startfault.OnNode(err), "the job's folder cannot be unfolded on the node: %w", startfault.Innermost(err))
}

// give hands a name to the job's user.
func (u *unfolding) give(name string) error {
	if u.owner == nil {
		return nil
	}
	if err := u.root.Lchown(name, u.owner.uid, u.owner.gid); err != nil {
		return onDisk(err)
	}
	return nil
}

// prepare makes the folders of an entry, and the file where it has no blob or several. It
// notes where blobs go.
func (u *unfolding) prepare(e *tree.Entry, needed map[tree.Hash][]chunk) error {
	if err := u.makeFolders(path.Dir(e.Path)); err != nil {
		return err
	}
	if e.Link != "" {
		u.links = append(u.links, *e)
		return nil
	}
	for i, h := range e.Blobs {
		needed[h] = append(needed[h], chunk{e, i})
	}
	if len(e.Blobs) == 1 {
		return nil
	}
	f, err := u.create(e)
	if err != nil {
		return err
	}
	return u.close(f, f.Truncate(e.Size))
}

func (u *unfolding) makeFolders(name string) error {
	if name == "." || u.folders[name] {
		return nil
	}
	if err := u.makeFolders(path.Dir(name)); err != nil {
		return err
	}
	err := u.root.Mkdir(name, folderMode)
	if err != nil {
		return u.twin(name, err)
	}
	u.folders[name] = true
	if err := u.root.Chmod(name, folderMode); err != nil { // whatever the agent's umask is
		return onDisk(err)
	}
	return u.give(name)
}

// twin says of a name that is there already why it is.
func (u *unfolding) twin(name string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return startfault.New(job.CauseSource,
			"two names of the job's folder are one on this node's disk, such as %q: they differ by case or by accents; rename one of them",
			startfault.Clip(name))
	}
	return onDisk(err)
}

// create makes the file of an entry.
func (u *unfolding) create(e *tree.Entry) (*os.File, error) {
	mode := fs.FileMode(plainMode)
	if e.Mode == tree.ModeProgram {
		mode = programMode
	}
	f, err := u.root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|process.OpenNoLink, mode)
	if err != nil {
		return nil, u.twin(e.Path, err)
	}
	err = f.Chmod(mode)
	if err == nil && u.owner != nil {
		err = f.Chown(u.owner.uid, u.owner.gid)
	}
	if err != nil {
		f.Close()
		return nil, onDisk(err)
	}
	return f, nil
}

func (u *unfolding) close(f *os.File, err error) error {
	if err = errors.Join(err, f.Close()); err != nil {
		return onDisk(err)
	}
	return nil
}

// write writes a blob to a place of it.
func (u *unfolding) write(c chunk, content []byte) error {
	if len(content) != c.entry.BlobSize(c.index) {
		return startfault.New(job.CauseSource, "the file %q of the job's folder has another size than its content",
			startfault.Clip(c.entry.Path))
	}
	if len(c.entry.Blobs) == 1 {
		f, err := u.create(c.entry)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return u.close(f, err)
	}
	f, err := u.root.OpenFile(c.entry.Path, os.O_WRONLY|process.OpenNoLink, 0)
	if err != nil {
		return onDisk(err)
	}
	_, err = f.WriteAt(content, int64(c.index)*tree.ChunkBytes)
	return u.close(f, err)
}

// finish makes the links.
func (u *unfolding) finish(ctx context.Context) error {
	for _, e := range u.links {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.root.Symlink(e.Link, e.Path); err != nil {
			return u.twin(e.Path, err)
		}
		if err := u.give(e.Path); err != nil {
			return err
		}
	}
	return nil
}

// readTree reads a tree from the share, and the names of its packs.
func (p *packCache) readTree(h tree.Hash) (tree.Tree, []tree.Hash, error) {
	type answer struct {
		body  []byte
		packs []tree.Hash
	}
	got, err := readShare(p, func() (answer, error) {
		body, packs, err := p.store.ReadTree(h)
		return answer{body, packs}, err
	})
	if errors.Is(err, treestore.ErrDamaged) {
		p.setAside(treestore.Tree, h)
		return nil, nil, startfault.New(job.CauseShare, "the list of the job's folder is damaged on the share; submit the job again with --sync")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, startfault.New(job.CauseSource,
			"the folder %s is not on the share: it is kept for some time after it was used last; submit the job again with --sync", h.Name())
	}
	if err != nil {
		return nil, nil, onShare(err)
	}
	if tree.HashOf(got.body) != h {
		p.setAside(treestore.Tree, h)
		return nil, nil, startfault.New(job.CauseShare,
			"the list of the job's folder is damaged on the share: it has another SHA-256 than its name; submit the job again with --sync")
	}
	list, err := tree.Parse(got.body, anySize)
	if err != nil {
		return nil, nil, startfault.New(job.CauseSource, "the job's folder cannot be unfolded: %w", err)
	}
	return list, got.packs, nil
}

// onShare is an error of the share.
func onShare(err error) error {
	return startfault.New(startfault.OnShare(err), "the job's folder cannot be read from the share: %w", startfault.Innermost(err))
}

// eachBlob hands over the blobs of a pack that are wanted. What the node has kept of the
// pack may be damaged: then it is read from the share once more.
func (p *packCache) eachBlob(ctx context.Context, h tree.Hash, wanted func(tree.Blob) bool, take func(tree.Blob, []byte) error) error {
	for last := false; ; last = true {
		body, err := p.open(ctx, h)
		if err != nil {
			return err
		}
		err = eachBlobOf(ctx, body, wanted, take)
		body.Close()
		if err == nil || !errors.Is(err, tree.ErrDamaged) {
			return err
		}
		if last {
			return startfault.New(job.CauseShare, "a pack of the job's folder cannot be used: %w", err)
		}
		p.drop(h)
	}
}

func eachBlobOf(ctx context.Context, body packBody, wanted func(tree.Blob) bool, take func(tree.Blob, []byte) error) error {
	blobs, err := tree.ReadIndex(body, body.size)
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !wanted(b) {
			continue
		}
		content, err := b.Read(body)
		if err != nil {
			return err
		}
		if err := take(b, content); err != nil {
			return err
		}
	}
	return nil
}

// packBody is a pack that is open.
type packBody struct {
	io.ReaderAt
	size  int64
	close func() error
}

// Close ends the use of the pack.
func (b packBody) Close() error { return b.close() }

// inMemory is a pack whose bytes are there.
func inMemory(body []byte) packBody {
	return packBody{bytes.NewReader(body), int64(len(body)), func() error { return nil }}
}

// causeOfTree is the cause of an error that carries none.
func causeOfTree(err error) job.Cause {
	if errors.Is(err, errTooSlow) {
		return job.CauseShare
	}
	return startfault.OnNode(err)
}

// treeDetails is what the attempt's standard error says of a folder that could not be
// unfolded.
func treeDetails(name string, err error) string {
	return fmt.Sprintf("the folder %s cannot be unfolded\n%s\n", strings.TrimSpace(name), err)
}
