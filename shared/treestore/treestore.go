// Package treestore keeps trees and packs on the share, each in a file that is named by
// its hash. The app writes them and removes them, and agents read them. Jobs may be able
// to write there too: no link is followed, nothing but plain files is read, and a reader
// has to check each hash. The package does not know what jobs are, and never retries.
package treestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"dsvmpools/shared/tree"
)

// Folder is where on the share everything lies.
const Folder = "synced"

// Kind is what a file is.
type Kind string

// The kinds of files; each is the name of their folder.
const (
	Pack Kind = "packs"
	Tree Kind = "trees"
)

const (
	temporary = "tmp"    // folder of files that are being written
	listed    = ".packs" // ends the name of the file that says in which packs the blobs of a tree are
	// maxListed bounds the packs of a tree.
	maxListed = 20_000
	// namesAtOnce are read of a folder with one call.
	namesAtOnce = 1024
)

// ErrDamaged is a file that is not what was written: it can only be written again.
var ErrDamaged = errors.New("it is damaged")

var errNoFile = fmt.Errorf("%w: something that is no file of its own is in its place", ErrDamaged)

// Store is the trees and packs on one share.
type Store struct{ share string }

// New returns the store on a share, named by the path at which it is mounted. Nothing is
// made before something is written.
func New(share string) *Store { return &Store{share: share} }

// File is a file as a list has it.
type File struct {
	Hash tree.Hash
	Used time.Time // when it was used last, as Touch has set it
	Size int64
}

// root opens the store. fs.ErrNotExist: nothing was ever written, and make is not set.
func (s *Store) root(make bool) (*os.Root, error) {
	share, err := os.OpenRoot(s.share)
	if err != nil {
		return nil, fmt.Errorf("the share cannot be read: %s", err) // it is no tree that is not there
	}
	defer share.Close()
	if make {
		for _, dir := range []string{Folder, path.Join(Folder, string(Pack)), path.Join(Folder, string(Tree)), path.Join(Folder, temporary)} {
			if err := share.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
	}
	return share.OpenRoot(Folder)
}

func (k Kind) name(h tree.Hash) string { return path.Join(string(k), h.String()) }

// Has reports whether there is a file, and when it was used last. A tree is there with the
// list of its packs: one that was written while it was removed may have lost its list.
func (s *Store) Has(kind Kind, h tree.Hash) (used time.Time, ok bool, err error) {
	root, err := s.root(false)
	if err == nil {
		defer root.Close()
		var found fs.FileInfo
		if found, err = root.Lstat(kind.name(h)); err == nil && kind == Tree {
			_, err = root.Lstat(kind.name(h) + listed)
		}
		if err == nil && found.Mode().IsRegular() {
			return found.ModTime(), true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return time.Time{}, false, err
}

// OpenPack opens a pack for reading, and returns its size. ErrDamaged: it is no pack.
func (s *Store) OpenPack(h tree.Hash) (*os.File, int64, error) {
	root, err := s.root(false)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	f, size, err := open(root, Pack.name(h))
	if err == nil && size > tree.MaxPackBytes {
		f.Close()
		return nil, 0, fmt.Errorf("%w: it has %d bytes", ErrDamaged, size)
	}
	return f, size, err
}

// open opens a plain file. It may be replaced at any time, and opening must not wait for
// the writer of a pipe, nor follow a link.
func open(root *os.Root, name string) (*os.File, int64, error) {
	found, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !found.Mode().IsRegular() {
		return nil, 0, errNoFile
	}
	f, err := root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, 0, err
	}
	opened, err := f.Stat()
	if err == nil && (!opened.Mode().IsRegular() || !os.SameFile(found, opened)) {
		err = errNoFile
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, opened.Size(), nil
}

// read reads a whole file of at most so many bytes.
func read(root *os.Root, name string, most int64) ([]byte, error) {
	f, size, err := open(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than %d", ErrDamaged, name, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// ReadTree reads a tree as it was sent, and the packs that its blobs are in. The caller
// checks the hash. fs.ErrNotExist: there is no such tree. ErrDamaged: it cannot be used.
func (s *Store) ReadTree(h tree.Hash) (body []byte, packs []tree.Hash, err error) {
	root, err := s.root(false)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	if body, err = read(root, Tree.name(h), tree.MaxTreeBytes); err != nil {
		return nil, nil, err
	}
	packs, err = readList(root, h)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: the list of the packs of the tree is missing", ErrDamaged)
	}
	return body, packs, err
}

// PacksOf reads which packs the blobs of a tree are in.
func (s *Store) PacksOf(h tree.Hash) ([]tree.Hash, error) {
	root, err := s.root(false)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readList(root, h)
}

func readList(root *os.Root, h tree.Hash) ([]tree.Hash, error) {
	list, err := read(root, Tree.name(h)+listed, maxListed*int64(2*len(tree.Hash{})+1))
	if err != nil {
		return nil, err
	}
	return parseList(list)
}

// parseList reads the packs of a tree: a hash in each line.
func parseList(text []byte) ([]tree.Hash, error) {
	var packs []tree.Hash
	for line := range strings.Lines(string(text)) {
		h, ok := tree.ParseHash(strings.TrimSuffix(line, "\n"))
		if !ok {
			return nil, fmt.Errorf("%w: the list of the packs of the tree", ErrDamaged)
		}
		packs = append(packs, h)
	}
	return packs, nil
}

// WritePack keeps a pack, which the caller has checked.
func (s *Store) WritePack(h tree.Hash, pack []byte, now time.Time) error {
	root, err := s.root(true)
	if err != nil {
		return err
	}
	defer root.Close()
	return write(root, Pack.name(h), pack, now)
}

// WriteTree keeps a tree, which the caller has checked, with the packs of its blobs.
func (s *Store) WriteTree(h tree.Hash, body []byte, packs []tree.Hash, now time.Time) error {
	root, err := s.root(true)
	if err != nil {
		return err
	}
	defer root.Close()
	var list bytes.Buffer
	for _, p := range packs {
		fmt.Fprintln(&list, p)
	}
	// A tree whose file is there is complete.
	if err := write(root, Tree.name(h)+listed, list.Bytes(), now); err != nil {
		return err
	}
	return write(root, Tree.name(h), body, now)
}

// write writes a file under a name of its own first, so that a name never stands for a
// part of a file.
func write(root *os.Root, name string, body []byte, now time.Time) (err error) {
	draft := path.Join(temporary, uuid.NewString())
	f, err := root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(draft) // else it is swept later
		}
	}()
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := root.Chtimes(draft, now, now); err != nil {
		return err
	}
	err = root.Rename(draft, name)
	if found, odd := root.Lstat(name); err != nil && odd == nil && found.IsDir() { // somebody has put it there
		if err = root.Rename(name, path.Join(temporary, uuid.NewString())); err == nil {
			err = root.Rename(draft, name)
		}
	}
	return err
}

// Touch notes that a file is used now. fs.ErrNotExist: it is not there (any more), and
// something else in its place is no file.
func (s *Store) Touch(kind Kind, h tree.Hash, now time.Time) error {
	root, err := s.root(false)
	if err != nil {
		return err
	}
	defer root.Close()
	found, err := root.Lstat(kind.name(h))
	if err != nil {
		return err
	}
	if !found.Mode().IsRegular() {
		return fs.ErrNotExist
	}
	return root.Chtimes(kind.name(h), now, now)
}

// List lists all files of a kind.
func (s *Store) List(kind Kind) ([]File, error) {
	root, err := s.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var all []File
	err = each(root, string(kind), func(found fs.FileInfo) {
		if h, ok := tree.ParseHash(found.Name()); ok && found.Mode().IsRegular() {
			all = append(all, File{Hash: h, Used: found.ModTime(), Size: found.Size()})
		}
	})
	return all, err
}

// each calls do for what is in a folder.
func each(root *os.Root, name string, do func(fs.FileInfo)) error {
	dir, err := root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(namesAtOnce)
		for _, e := range entries {
			if found, err := e.Info(); err == nil {
				do(found)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Remove removes a file that was not used since a time. Somebody may use it in the same
// moment: it is taken away first, and put back when it was touched in between, so that
// nobody is told that a file is there which is about to go. false: it is still in use.
func (s *Store) Remove(kind Kind, h tree.Hash, unusedSince time.Time) (bool, error) {
	root, err := s.root(false)
	if err != nil {
		return false, err
	}
	defer root.Close()
	name, away := kind.name(h), path.Join(temporary, uuid.NewString())
	if err := root.Rename(name, away); err != nil {
		return false, err
	}
	found, err := root.Lstat(away)
	if err == nil && found.ModTime().After(unusedSince) {
		return false, root.Rename(away, name)
	}
	if err == nil && kind == Tree {
		if err := root.Remove(name + listed); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	return true, errors.Join(err, root.Remove(away))
}

// SetAside takes a file away that was found to be damaged. It is swept later.
func (s *Store) SetAside(kind Kind, h tree.Hash) error {
	root, err := s.root(false)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Rename(kind.name(h), path.Join(temporary, uuid.NewString()))
}

// SweepDrafts removes what writers that were killed have left, if it is older than a
// time.
func (s *Store) SweepDrafts(before time.Time) (removed int, err error) {
	root, err := s.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var old []string
	if err := each(root, temporary, func(found fs.FileInfo) {
		if found.ModTime().Before(before) {
			old = append(old, found.Name())
		}
	}); err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range old {
		if err := root.RemoveAll(path.Join(temporary, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}
