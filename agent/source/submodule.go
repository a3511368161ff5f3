package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// Limits of submodules: more are a mistake, or meant to keep the node busy.
const (
	maxSubmodules = 100 // of one attempt
	maxNesting    = 5
)

// submodule is what a commit says of a repository within it.
type submodule struct{ path, url, commit string }

// fetchSubmodules puts the submodules of a work tree into it, and the submodules of those.
func (a *attempt) fetchSubmodules(ctx context.Context, repository, commit, tree string, nesting int) error {
	list, err := a.listSubmodules(ctx, commit, tree)
	if err != nil || len(list) == 0 {
		return err
	}
	if nesting > maxNesting {
		return fmt.Errorf("its submodules have submodules more than %d deep", maxNesting)
	}
	for _, m := range list {
		if a.submodules++; a.submodules > maxSubmodules {
			return fmt.Errorf("it has more than %d submodules", maxSubmodules)
		}
		if err := a.fetchSubmodule(ctx, repository, tree, m, nesting); err != nil {
			return fmt.Errorf("the submodule %q: %w", startfault.Clip(m.path), err)
		}
	}
	return nil
}

func (a *attempt) fetchSubmodule(ctx context.Context, parent, tree string, m submodule, nesting int) error {
	at := resolveURL(parent, m.url)
	relative := at != m.url
	if err := job.CheckRepository(at); err != nil || !relative && strings.HasPrefix(at, "ssh:") {
		return fmt.Errorf("its address %q is neither https:// nor relative to the repository's; change it in .gitmodules", startfault.Clip(m.url))
	}
	if err := a.checkTransport(at); err != nil {
		return err
	}
	// git has made an empty directory there. A link would lead elsewhere.
	base, err := filepath.EvalSymlinks(tree)
	if err != nil {
		return err
	}
	dir := filepath.Join(base, m.path)
	if real, err := filepath.EvalSymlinks(dir); err != nil || real != dir {
		return errors.New("its path is not a directory of the source")
	}
	if err := a.fetchRepository(ctx, at, m.commit, dir); err != nil {
		return err
	}
	return a.fetchSubmodules(ctx, at, m.commit, dir, nesting+1)
}

// listSubmodules reads which submodules a commit has. Git looks into the work tree as
// the job's user.
func (a *attempt) listSubmodules(ctx context.Context, commit, tree string) ([]submodule, error) {
	file, err := a.treeEntry(ctx, commit, tree, ".gitmodules")
	if err != nil || !strings.HasPrefix(file, "100") { // not there, or no plain file
		return nil, err
	}
	text, err := a.gitInTree(ctx, tree, "config", "--blob", commit+":.gitmodules", "--null", "--list")
	if err != nil {
		return nil, err
	}
	var list []submodule
	for _, m := range parseModules(text) {
		link, err := a.treeEntry(ctx, commit, tree, m.path)
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(link) // mode, kind, name, path
		if len(fields) < 3 || fields[0] != "160000" {
			continue // it was removed, and its entry forgotten
		}
		m.commit = fields[2]
		list = append(list, m)
	}
	return list, nil
}

// parseModules reads what git config lists of a .gitmodules: entries that end with
// a zero byte, each a key and a value with a line break between them. What has no
// usable path or address is left out.
func parseModules(text string) []submodule {
	var names []string
	found := map[string]*submodule{}
	for entry := range strings.SplitSeq(text, "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot < 0 || len(names) > maxSubmodules {
			continue
		}
		name := rest[:dot]
		if found[name] == nil {
			found[name] = &submodule{}
			names = append(names, name)
		}
		switch rest[dot+1:] {
		case "path":
			found[name].path = value
		case "url":
			found[name].url = value
		}
	}
	var list []submodule
	for _, name := range names {
		if m := *found[name]; m.url != "" && isPlainPath(m.path) {
			list = append(list, m)
		}
	}
	return list
}

// isPlainPath reports whether a path stays below a work tree and out of git's own.
func isPlainPath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || strings.EqualFold(part, ".git") {
			return false
		}
	}
	return filepath.IsLocal(path) && !strings.HasPrefix(path, "-")
}

// resolveURL resolves an address that is relative to its parent's, as git does.
func resolveURL(parent, url string) string {
	if !strings.HasPrefix(url, "./") && !strings.HasPrefix(url, "../") {
		return url
	}
	parent = strings.TrimRight(parent, "/")
	for {
		if rest, ok := strings.CutPrefix(url, "./"); ok {
			url = rest
		} else if rest, ok := strings.CutPrefix(url, "../"); ok {
			url, parent = rest, parent[:max(strings.LastIndexByte(parent, '/'), 0)]
		} else {
			return parent + "/" + url
		}
	}
}

// treeEntry is git's line about a path of a commit: mode, kind, name, path; "" = it is
// not there.
func (a *attempt) treeEntry(ctx context.Context, commit, tree, path string) (string, error) {
	line, err := a.gitInTree(ctx, tree, "ls-tree", "-z", "--full-tree", commit, "--", path)
	line, _, _ = strings.Cut(line, "\x00")
	return line, err
}

// gitInTree runs git in a work tree as the user of the job, and returns its answer.
func (a *attempt) gitInTree(ctx context.Context, tree string, args ...string) (string, error) {
	var out bounded
	err := gitRun{key: a.Key, name: "git", args: args, dir: tree, as: a.As, out: &out, env: nowhere}.run(ctx)
	return out.String(), err
}
