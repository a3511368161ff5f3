// Package workfolder lists the files of a folder that are to be sent to the nodes: what git
// would not ignore, less what .dsvmignore and the caller leave out. It serves the command
// line. It never changes a file, and sends nothing.
package workfolder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"dsvmpools/shared/tree"
)

// IgnoreFile has rules of its own, in the syntax of .gitignore and after its rules.
const IgnoreFile = ".dsvmignore"

// leftOut are folders that hold what nobody means to send. `!` in .dsvmignore or an Include brings
// them back.
var leftOut = []string{".git", ".dsvm", "__pycache__", ".venv", "node_modules"}

// Options change what is listed.
type Options struct {
	Include []string // patterns of what is sent although a rule ignores it
	Exclude []string // patterns of what is not sent
	NoGit   bool     // do not ask git, even where it is installed
}

// File is a file or a symbolic link that is to be sent.
type File struct {
	Path    string // below the folder, with /
	Size    int64
	Program bool
	Link    string // what a link leads to; "" = it is a file
}

// Found is what a folder has.
type Found struct {
	Files   []File
	Strange []string // paths of what is neither a file, a folder nor a link
	Git     bool     // git said what it ignores
}

// List lists a folder.
func List(ctx context.Context, folder string, o Options) (Found, error) {
	w := walker{folder: folder}
	for _, name := range leftOut {
		w.always = append(w.always, rule{pattern: "**/" + name, folders: true}, rule{pattern: "**/" + name})
	}
	var err error
	if w.include, err = patterns("--include", o.Include); err != nil {
		return Found{}, err
	}
	if w.exclude, err = patterns("--exclude", o.Exclude); err != nil {
		return Found{}, err
	}
	if !o.NoGit {
		w.git = askGit(ctx, folder)
	}
	w.found.Git = w.git != nil
	err = w.walk(ctx, "", state{list: w.git})
	return w.found, err
}

// PatternError is the error about a pattern that a flag gives and that is none.
type PatternError struct{ text string }

func (e *PatternError) Error() string { return e.text }

// patterns reads what a flag says.
func patterns(flag string, texts []string) ([]rule, error) {
	var rules []rule
	for _, text := range texts {
		r, ok := parseRule(strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(text), "./"), "/"), "")
		if !ok || r.back {
			return nil, &PatternError{fmt.Sprintf("%s is %q; it takes a pattern such as *.ckpt or data/small.csv", flag, text)}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

type walker struct {
	folder                   string
	always, include, exclude []rule
	git                      *gitList // nil = rules are read here
	found                    Found
}

// state is what holds for everything in a folder.
type state struct {
	ignored   bool   // so is everything below, unless it is brought back
	byGit     bool   // git ignores it, whatever rules below say
	gitRules  []rule // of .gitignore files, from the top down
	ownRules  []rule // of .dsvmignore files
	list      *gitList
	listBelow string // the folder that list is of
}

// walk lists a folder below the top; "" is the top.
func (w *walker) walk(ctx context.Context, folder string, s state) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if folder != "" && s.list != nil && !s.byGit {
		if _, err := os.Lstat(filepath.Join(w.path(folder), ".git")); err == nil { // a submodule, or another work tree
			if inner := askGit(ctx, w.path(folder)); inner != nil {
				s.list, s.listBelow = inner, folder
			}
		}
	}
	entries, err := os.ReadDir(w.path(folder))
	if err != nil {
		return err
	}
	if s.list == nil {
		s.gitRules = w.readRules(s.gitRules, folder, ".gitignore")
	}
	s.ownRules = w.readRules(s.ownRules, folder, IgnoreFile)
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		next := w.judge(s, name, e.IsDir())
		switch {
		case e.IsDir():
			if next.ignored && !w.mayBringBack(next, name) {
				continue
			}
			if err := w.walk(ctx, name, next); err != nil {
				return err
			}
		case !next.ignored:
			if err := w.add(name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) path(name string) string { return filepath.Join(w.folder, filepath.FromSlash(name)) }

// readRules adds the rules of a file in a folder.
func (w *walker) readRules(rules []rule, folder, file string) []rule {
	text, err := os.ReadFile(filepath.Join(w.path(folder), file))
	if err != nil {
		return rules
	}
	return append(rules[:len(rules):len(rules)], parseRules(string(text), folder)...)
}

// judge says whether a path is ignored. What comes later stands above what came before.
func (w *walker) judge(s state, name string, isFolder bool) state {
	if !s.ignored {
		s.ignored, _ = verdict(w.always, name, isFolder)
	}
	switch {
	case s.byGit:
	case s.list != nil:
		below := strings.TrimPrefix(strings.TrimPrefix(name, s.listBelow), "/")
		s.byGit = !s.list.has(below, isFolder)
	default:
		s.byGit, _ = verdict(s.gitRules, name, isFolder)
	}
	s.ignored = s.ignored || s.byGit
	back := false
	if ignored, said := verdict(s.ownRules, name, isFolder); said {
		s.ignored, back = ignored, !ignored
	}
	if _, said := verdict(w.include, name, isFolder); said {
		s.ignored, back = false, true
	}
	if back && s.byGit { // all of the folder is meant, whatever git says of it
		s.byGit, s.list, s.gitRules = false, nil, nil
	}
	if _, said := verdict(w.exclude, name, isFolder); said {
		s.ignored = true
	}
	return s
}

// mayBringBack reports whether something below an ignored folder may be sent all the same.
func (w *walker) mayBringBack(s state, folder string) bool {
	if path.Base(folder) == ".git" {
		return false
	}
	if _, said := verdict(w.exclude, folder, true); said {
		return false
	}
	for _, r := range w.include {
		if r.mayMatchBelow(folder) {
			return true
		}
	}
	for _, r := range s.ownRules {
		if r.back && r.mayMatchBelow(folder) {
			return true
		}
	}
	return false
}

// add lists a file.
func (w *walker) add(name string, e fs.DirEntry) error {
	at, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	f := File{Path: name}
	switch mode := at.Mode(); {
	case mode.IsRegular():
		f.Size, f.Program = at.Size(), w.isProgram(name, mode)
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(w.path(name))
		if err != nil {
			return err
		}
		if f.Link = filepath.ToSlash(target); f.Link == "" {
			f.Link = "."
		}
		if err := tree.CheckLink(name, f.Link); err != nil {
			return err
		}
	default:
		w.found.Strange = append(w.found.Strange, name)
		return nil
	}
	w.found.Files = append(w.found.Files, f)
	return tree.CheckPath(name)
}

// gitList is what git does not ignore of a work tree.
type gitList struct {
	files, folders map[string]bool
}

func (g *gitList) has(name string, isFolder bool) bool {
	if isFolder {
		return g.folders[name] || g.files[name] // a submodule is listed as a file
	}
	return g.files[name]
}

// askGit lists what git does not ignore of a folder; nil = git is not installed, or the
// folder is in no work tree.
func askGit(ctx context.Context, folder string) *gitList {
	c := exec.CommandContext(ctx, "git", "-C", folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := c.Output()
	if err != nil {
		return nil
	}
	g := &gitList{files: map[string]bool{}, folders: map[string]bool{}}
	for name := range strings.SplitSeq(string(out), "\x00") {
		name = strings.TrimSuffix(name, "/") // another work tree, as a whole
		g.files[name] = true
		for dir := path.Dir(name); dir != "." && !g.folders[dir]; dir = path.Dir(dir) {
			g.folders[dir] = true
		}
	}
	return g
}
