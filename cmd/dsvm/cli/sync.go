package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/workfolder"
	"dsvmpools/shared/client"
	"dsvmpools/shared/tree"
)

// biggest is how many paths are named when a folder is too large.
const biggest = 10

// syncFlags say which folder of this machine a job starts in.
type syncFlags struct {
	folder   string
	include  []string
	exclude  []string
	listOnly bool
}

func (f *syncFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.folder, "sync", "",
		"send what changed of this folder, and start the job in it; git's ignore rules and .dsvmignore hold")
	flags.StringArrayVar(&f.include, "include", nil, "with --sync: pattern of what is sent although a rule ignores it; may be repeated")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "with --sync: pattern of what is not sent; may be repeated")
	flags.BoolVar(&f.listOnly, "sync-dry-run", false, "with --sync: list what would be sent, the biggest first, and submit nothing")
	_ = c.MarkFlagDirname("sync") // it is there
}

// isSet reports whether a folder is to be sent.
func (f *syncFlags) isSet() bool { return f.folder != "" }

// noteDryRun says what a dry run of a job with a folder leaves out.
func (f *syncFlags) noteDryRun(p *Program) {
	if f.isSet() {
		p.Say("--dry-run sends no folder: the document has no `source.tree` yet; --sync-dry-run lists the files")
	}
}

// send sends the folder, and has the jobs start in it. done: the folder was only listed.
func (f *syncFlags) send(ctx context.Context, p *Program, jobs ...*document) (done bool, err error) {
	if !f.isSet() {
		if len(f.include)+len(f.exclude) > 0 || f.listOnly {
			return false, WrongUse("--include, --exclude and --sync-dry-run say what --sync sends; add --sync FOLDER")
		}
		return false, nil
	}
	for _, d := range jobs {
		if source, _ := d.fields["source"].(map[string]any); source["repository"] != nil || source["tree"] != nil {
			return false, WrongUse("the job has a `source` already, and --sync gives it one; keep one of them")
		}
	}
	folder := p.fromHere(f.folder)
	if at, err := os.Stat(folder); err != nil || !at.IsDir() {
		return false, WrongUse("--sync is %q, which is no folder", f.folder)
	}
	begin := time.Now()
	found, err := workfolder.List(ctx, folder, workfolder.Options{Include: f.include, Exclude: f.exclude})
	var wrong *workfolder.PatternError
	if errors.As(err, &wrong) {
		return false, WrongUse("%s", wrong)
	}
	if err != nil {
		return false, fmt.Errorf("%s cannot be sent: %w; --exclude leaves it out", f.folder, err)
	}
	if n := len(found.Strange); n > 0 {
		p.Say("only files and links are sent, and %s left out, such as %q", count(n, "other thing"), found.Strange[0])
	}
	slices.SortStableFunc(found.Files, func(a, b workfolder.File) int { return cmp.Compare(b.Size, a.Size) })
	if f.listOnly {
		return true, f.list(p, found.Files)
	}
	if len(found.Files) == 0 {
		return false, WrongUse("nothing in %s is to be sent; see the ignore rules, or name it with --include", f.folder)
	}
	s, err := p.connect()
	if err != nil {
		return false, err
	}
	sent, err := f.sendFiles(ctx, p, s, folder, found.Files, begin)
	if err != nil {
		return false, s.explain(err)
	}
	for _, d := range jobs {
		d.set(sent.Name, "source", "tree")
	}
	if time.Since(begin) > progressAfter || p.ErrWidth > 0 {
		p.Say("%s of %s in %s of %s were new and are sent",
			sizeText(sent.New), sizeText(sent.Bytes), count(sent.Files, "file"), f.folder)
	}
	return false, nil
}

// sendFiles sends files after it has held them against the bounds of the instance.
func (f *syncFlags) sendFiles(
	ctx context.Context,
	p *Program,
	s *session,
	folder string,
	files []workfolder.File,
	begin time.Time,
) (client.SentTree, error) {
	limits, err := s.TreeLimits(ctx)
	if err != nil {
		return client.SentTree{}, err
	}
	if err := f.checkBounds(files, limits); err != nil {
		return client.SentTree{}, err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return client.SentTree{}, err
	}
	defer root.Close()
	all := make([]client.TreeFile, len(files))
	for i, w := range files {
		name := filepath.FromSlash(w.Path)
		all[i] = client.TreeFile{Path: w.Path, Program: w.Program, Link: w.Link, Open: func() (io.ReadCloser, error) { return root.Open(name) }}
		if w.Program {
			if err := checkLineEnds(root, name); err != nil {
				return client.SentTree{}, err
			}
		}
	}
	said := begin
	return s.SendTree(ctx, all, func(done, of int64) {
		if time.Since(said) > progressAfter {
			said = time.Now()
			p.Say("%s of %s sent", sizeText(done), sizeText(of))
		}
	})
}

// checkBounds refuses a folder that is too large before anything is sent, with the ways out.
func (f *syncFlags) checkBounds(files []workfolder.File, limits tree.Limits) error {
	var total int64
	for _, w := range files {
		total += w.Size
	}
	if total <= limits.Bytes && len(files) <= limits.Files {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s has %s in %s, and at most %s in %d files are sent. The biggest:\n",
		f.folder, sizeText(total), count(len(files), "file"), sizeText(limits.Bytes), limits.Files)
	for _, w := range files[:min(biggest, len(files))] {
		fmt.Fprintf(&text, "  %10s  %s\n", sizeText(w.Size), plain(w.Path))
	}
	text.WriteString("Leave out what the job does not need (--exclude, or a line in .dsvmignore), put large data on the share,\n" +
		"or have the nodes fetch a commit (the field `source`); --sync-dry-run lists all files")
	return errors.New(text.String())
}

// checkLineEnds refuses a script whose first line no node can read.
func checkLineEnds(root *os.Root, name string) error {
	in, err := root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	begin := make([]byte, 256)
	n, _ := io.ReadFull(in, begin) // a shorter file is as good
	line, _, whole := bytes.Cut(begin[:n], []byte("\n"))
	if whole && bytes.HasPrefix(line, []byte("#!")) && bytes.HasSuffix(line, []byte("\r")) {
		return fmt.Errorf("%s has line ends of Windows, so that its first line names no program on a node; save it with LF "+
			"(git: `*.sh text eol=lf` in .gitattributes)", plain(filepath.ToSlash(name)))
	}
	return nil
}

// sentFile is a file as the dry run lists it.
type sentFile struct {
	Path       string `json:"path"`
	Size       int64  `json:"size"`
	Executable bool   `json:"executable"`
	Target     string `json:"target,omitempty"` // of a link
}

// list shows what would be sent.
func (f *syncFlags) list(p *Program, files []workfolder.File) error {
	items, t := []sentFile{}, newTable("<SIZE PATH")
	var total int64
	for _, w := range files {
		items = append(items, sentFile{w.Path, w.Size, w.Program, w.Link})
		total += w.Size
		t.add(sizeText(w.Size), w.Path)
	}
	if err := p.list(items, t, "nothing would be sent"); err != nil {
		return err
	}
	p.Say("%s in %s would be in the folder of the job; what the instance has already is not sent again",
		sizeText(total), count(len(files), "file"))
	return nil
}

// sizeText writes a number of bytes as people do.
func sizeText(n int64) string {
	const step = 1024
	size, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < step {
			break
		}
		size, unit = size/step, next
	}
	if unit == "B" || size >= 100 {
		return fmt.Sprintf("%.0f %s", size, unit)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
