package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// initArguments is the kind of names that a commit's repository has, and the directory.
func initArguments(commit, dir string) []string {
	const sha256Digits = 64
	if len(commit) == sha256Digits {
		return []string{"--object-format=sha256", dir}
	}
	return []string{dir}
}

// hasCommit reports whether all of a commit is in a cache.
func (a *attempt) hasCommit(ctx context.Context, dir, commit string) bool {
	return a.gitInCache(ctx, dir, nil, "show-ref", "--verify", "--quiet", commitRef+commit) == nil
}

// download fetches a commit by its name and without its history. An old
// server gives only the tips of branches and tags by name. From such a server all of them
// are fetched, and the commit is looked for in their history.
func (a *attempt) download(ctx context.Context, dir, repository, commit string) error {
	fetch := []string{"fetch", "--quiet", "--no-tags"}
	err := a.gitWithServer(ctx, dir, repository, append(fetch, "--depth=1", repository, "+"+commit+":"+commitRef+commit)...)
	var said *gitError
	if !errors.As(err, &said) {
		return err
	}
	switch {
	case strings.Contains(said.words, "not our ref"):
		return fmt.Errorf("the repository does not have the commit %.12s (any more): %w", commit, err)
	case strings.Contains(said.words, "unadvertised object"):
	case strings.Contains(said.words, "File too large"): // EFBIG
		return fmt.Errorf("the commit is larger than %v, which is what DSVM_SOURCE_CACHE allows: %w", a.cfg.CacheSize, err)
	case strings.Contains(said.words, "terminal prompts disabled") && a.credential == nil:
		return fmt.Errorf("the repository does not exist or asks for a credential; name one of the node's in `source.credential`: %w", err)
	default:
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "shallow")); err == nil {
		fetch = append(fetch, "--unshallow")
	}
	fetch = append(fetch, repository, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	if err := a.gitWithServer(ctx, dir, repository, fetch...); err != nil {
		return err
	}
	if err := a.gitInCache(ctx, dir, nil, "update-ref", commitRef+commit, commit); err != nil {
		return fmt.Errorf("the commit %.12s is on no branch or tag of the repository (any more): %w", commit, err)
	}
	return nil
}

// gitInCache runs git in a cache, without network.
func (a *attempt) gitInCache(ctx context.Context, dir string, out *bounded, args ...string) error {
	g := a.gitAsAgent(dir, args)
	if out != nil {
		g.out = out
	}
	return g.run(ctx)
}

// limited runs git with the files that it can write bounded, in units of 512 bytes
// as POSIX has it, and the writing failing instead of the process: a repository
// that is far too large is not to fill the node's disk.
const (
	limited    = `ulimit -f "$1" && trap '' XFSZ && shift && exec git "$@"`
	ulimitUnit = 512
)

// gitWithServer runs git with a repository's server.
func (a *attempt) gitWithServer(ctx context.Context, dir, repository string, args ...string) error {
	var secret *credential
	if a.credential.covers(repository) {
		secret = a.credential
	}
	reach, err := a.gateEnvironment(ctx, repository, secret)
	if err != nil {
		return err
	}
	g := a.gitAsAgent(dir, args, secret.helperConfig()...)
	g.secret = secret
	if most := int64(a.cfg.CacheSize); most > 0 {
		g.name, g.args = "sh", append([]string{"-c", limited, "sh", strconv.FormatInt(max(most/ulimitUnit, 1), 10)}, g.args...)
	}
	g.env = append(g.env, reach...)
	return a.explain(g.run(ctx))
}

// gitAsAgent is a run of git as the agent's own user.
func (a *attempt) gitAsAgent(dir string, args []string, config ...string) gitRun {
	var all []string
	for _, c := range slices.Concat(gitConfig, config) {
		all = append(all, "-c", c)
	}
	return gitRun{key: a.Key, name: "git", args: append(all, args...), dir: dir, env: []string{"HOME=" + a.cfg.Dir}}
}

// unpacking makes a work tree of what comes in: its arguments are the directory,
// the commit, its repository, and the options of git init.
const unpacking = `set -e
rm -rf -- "$1"
mkdir -p -- "$1"
cd -- "$1"
git init --quiet --template= $4
git index-pack --stdin >/dev/null
printf '%s\n' "$2" >.git/shallow
git config remote.origin.url "$3"
git checkout --quiet --detach "$2"
`

// unpack makes a work tree of a commit in the cache, as the user that jobs run
// as, who cannot read the cache.
func (a *attempt) unpack(ctx context.Context, dir, repository, commit, tree string) error {
	// The commit's own files, without what came before it, as git's own server
	// sends it to a client without history.
	ask := strings.NewReader("--shallow " + commit + "\n" + commit + "\n")
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	packing := a.gitAsAgent(dir, []string{"pack-objects", "--revs", "--stdout", "--quiet"})
	packing.in, packing.out = ask, to
	packed := make(chan error, 1)
	go func() {
		packed <- packing.run(ctx)
		to.Close()
	}()
	kind := strings.Join(initArguments(commit, "."), " ")
	err = gitRun{key: a.Key, name: "sh", args: []string{"-c", unpacking, "sh", tree, commit, repository, kind}, dir: "/",
		as: a.As, in: from, env: nowhere}.run(ctx)
	from.Close()
	if failed := <-packed; failed != nil && err != nil {
		var said *gitError
		if errors.As(failed, &said) && said.words != "" {
			return failed // the other end has seen the pack break off
		}
	}
	return err
}
