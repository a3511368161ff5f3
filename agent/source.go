//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/protocol"
)

// sources fetches what jobs run in. Two users take part when the agent is root:
// git of the agent's own speaks with the network, with a credential if there is
// one, and writes into the node's cache, which jobs cannot read; git of the job's
// user makes the work tree, out of a pipe and without network. So a work tree has
// nothing to do with a credential, and nothing in it belongs to the agent.
type sources struct {
	cfg      Config
	launcher *launcher
	dir      string // of the caches
	path     string // where git is looked for

	mu    sync.Mutex
	repos map[string]*repo // those in use, by directory name
}

// newSources finds what an earlier life of the agent has kept.
func newSources(cfg Config, l *launcher) (*sources, error) {
	s := &sources{cfg: cfg, launcher: l, dir: filepath.Join(cfg.InstanceDir, "sources"), path: jobPath, repos: map[string]*repo{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for sources cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	return s, s.tidy()
}

// ready says why nothing can be fetched on this node.
func (s *sources) ready(large bool) error {
	if _, err := lookUp("git", s.path, ""); err != nil {
		return errors.New("git is not installed on this node, and the job has a source; install git in the pool's image or setup")
	}
	if _, err := lookUp("git-lfs", s.path, ""); err != nil && large {
		return errNoLFS
	}
	return nil
}

// errSourceTime is the end of a fetch that took too long.
var errSourceTime = errors.New("it took longer than DSVM_SOURCE_TIMEOUT")

// errOnlyThere tells that a transport is not used.
var errOnlyThere = errors.New("its repository is on the node itself, which jobs of this node may not read as the agent does; set DSVM_SOURCE_LOCAL=true on a machine of your own")

// place fetches an attempt's source and returns its work tree, and the file of the
// source's own jobs where that is all that is wanted. What goes wrong is in the
// attempt's stderr.log too, whole. The error is a sentence for the job's owner.
func (s *sources) place(ctx context.Context, n int64, w protocol.Assignment) (tree, file string, err error) {
	slot, dir, err := s.launcher.attemptDir(n, w)
	if err != nil {
		return "", "", err
	}
	defer dir.close()
	if err := s.launcher.private(n, slot.owner); err != nil {
		return "", "", err
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.cfg.SourceTimeout, errSourceTime)
	defer cancel()
	f := &fetcher{sources: s, key: s.launcher.key(n), source: *w.Source, as: slot.as}
	tree = filepath.Join(s.launcher.scratch(n), "source")
	err = f.fetch(limited, tree)
	if err == nil && readsFile(w) {
		if file, err = f.file(limited, tree); errors.As(err, new(fileError)) {
			s.launcher.note(dir, fmt.Sprintln(err))
			return "", "", err
		}
	}
	if err == nil {
		return tree, file, nil
	}
	if ctx.Err() == nil {
		s.launcher.note(dir, fmt.Sprintf("the source %s at %s cannot be fetched\n%s\n", w.Source.Repository, w.Source.Commit, f.words(err)))
	}
	return "", "", because(known(err, ofSource), "the source cannot be fetched: %w", err)
}

// fileError says what is wrong with the file of the source's own jobs. Another
// attempt would find the same.
type fileError struct{ error }

func refuseFile(format string, args ...any) error {
	return fileError{fmt.Errorf(format, args...)}
}

// file reads the source's own jobs.
func (f *fetcher) file(ctx context.Context, tree string) (string, error) {
	name := path.Join(f.source.Path, job.SourceFile)
	entry, err := f.entry(ctx, f.source.Commit, tree, name)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(entry, "100") {
		return "", refuseFile("the repository has no file %s at this commit; add one that holds the jobs", name)
	}
	text, err := f.inside(ctx, tree, "cat-file", "blob", f.source.Commit+":"+name)
	switch {
	case err == nil && text == "": // a report without a file would look the same
		return "", refuseFile("the repository's file %s is empty; write the jobs into it", name)
	case err == nil && len(text) > job.MaxSourceFile, errors.Is(err, errTooLong):
		return "", refuseFile("the repository's file %s has more than %d bytes; shorten it", name, job.MaxSourceFile)
	case err == nil && (!utf8.ValidString(text) || strings.ContainsRune(text, 0)):
		return "", refuseFile("the repository's file %s is not a text in UTF-8", name)
	}
	return text, err
}

// fetcher fetches for one attempt.
type fetcher struct {
	*sources
	key        string
	source     job.Source
	as         *syscall.Credential // whom the job runs as; nil = the agent's own user
	credential *credential
	gate       *outbound.Gate // all that git connects to goes through it
	count      int            // of submodules so far
}

// words is all that is known of an error.
func (f *fetcher) words(err error) string {
	var said *gitError
	if errors.As(err, &said) && said.words != "" {
		return strings.TrimSpace(strings.TrimSuffix(err.Error(), said.Error()) + "git says:\n" + said.words)
	}
	return err.Error()
}

func (f *fetcher) fetch(ctx context.Context, tree string) (err error) {
	if err := f.ready(f.source.LFS); err != nil {
		return err
	}
	if name := f.source.Credential; name != "" {
		if f.credential, err = readCredential(f.cfg.Credentials, name); err != nil {
			return err
		}
		if !f.credential.covers(f.source.Repository) {
			return fmt.Errorf("the credential %q of this node is for other repositories; name another one", name)
		}
	}
	if err := f.allowed(f.source.Repository); err != nil {
		return err
	}
	if f.gate, err = f.openGate(); err != nil {
		return err
	}
	defer f.gate.Close()
	err = f.one(ctx, f.source.Repository, f.source.Commit, tree)
	if err == nil && f.source.Submodules {
		err = f.submodules(ctx, f.source.Repository, f.source.Commit, tree, 1)
	}
	return err
}

// local reports whether repositories of the node itself may be fetched. Where jobs
// run as the agent's own user, git reads nothing for them that they could not.
func (f *fetcher) local() bool { return f.cfg.SourceLocal || f.as == nil }

// allowed says why a repository's transport is not used on this node.
func (f *fetcher) allowed(repository string) error {
	if strings.HasPrefix(repository, "file:") && !f.local() {
		return errOnlyThere
	}
	return nil
}

// one puts a commit of a repository into a directory. When that fails with what
// the cache holds, it is tried once more without: the cache may be damaged.
func (f *fetcher) one(ctx context.Context, repository, commit, tree string) error {
	r := f.take(repository)
	defer f.release(r)
	dir, old, err := f.ensure(ctx, r, repository, commit)
	if err != nil && !old {
		return err
	}
	if err == nil {
		err = f.fill(ctx, dir, repository, commit, tree)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if dir, err = f.renew(ctx, r, dir, repository, commit); err != nil {
		return err
	}
	return f.fill(ctx, dir, repository, commit, tree)
}

// fill makes a work tree of what a cache's directory holds.
func (f *fetcher) fill(ctx context.Context, dir, repository, commit, tree string) error {
	err := f.unpack(ctx, dir, repository, commit, tree)
	if err == nil && f.source.LFS {
		err = f.large(ctx, dir, repository, commit, tree)
	}
	return err
}

// inTree is the directory of a work tree that an attempt starts in. It is looked
// up by the process itself once more, as the user that jobs run as.
func inTree(tree, path, workdir string) (string, error) {
	name := filepath.Join(path, workdir)
	if !filepath.IsLocal(filepath.Join(".", name)) || strings.ContainsRune(name, 0) {
		return "", because(job.CauseNoWorkdir, "the directory %q leads out of the source; write a path below it", clip(name))
	}
	real, err := filepath.EvalSymlinks(filepath.Join(tree, name))
	if err != nil {
		return "", because(ofPath(err, job.CauseNoWorkdir), "the source has no directory %q at this commit", clip(name))
	}
	base, err := filepath.EvalSymlinks(tree)
	if err != nil {
		return "", because(onNode(err), "the source cannot be read: %w", cause(err))
	}
	if below, err := filepath.Rel(base, real); err != nil || !filepath.IsLocal(below) {
		return "", because(job.CauseNoWorkdir, "the directory %q of the source is a link that leads out of it", clip(name))
	}
	if at, err := os.Stat(real); err != nil || !at.IsDir() {
		return "", because(job.CauseNoWorkdir, "%q of the source is not a directory", clip(name))
	}
	return real, nil
}
