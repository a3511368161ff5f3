package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
)

// Config is where a fetcher keeps what it fetches, and what it may fetch.
type Config struct {
	Dir          string         // of the caches, absolute; it is made when it is not there
	Share        string         // path of the share, which has the trees
	Packs        string         // folder of the packs that are kept, absolute; it is made when it is not there; "" = beside Dir
	Credentials  string         // folder of the credentials, absolute; "" = there are none
	Timeout      time.Duration  // of one Place
	CacheSize    job.Bytes      // most that is kept, and that is fetched at once; 0 = nothing is kept, any amount is fetched
	Local        bool           // repositories of the node itself (file:) may be fetched for jobs of another user
	AllowPrivate outbound.Guard // private addresses that may be connected to
	Env          []string       // NAME=value: HTTPS_PROXY, NO_PROXY and GIT_SSL_CAINFO
}

// Fetcher places sources, for many attempts side by side.
type Fetcher struct {
	cfg   Config
	path  string // where git is looked up
	packs *packCache

	mu    sync.Mutex
	repos map[string]*repo // those in use, by directory name
}

// New returns a fetcher that uses the caches of an earlier life of the agent.
func New(cfg Config) (*Fetcher, error) {
	f := &Fetcher{cfg: cfg, path: process.Path, repos: map[string]*repo{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for sources cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	var err error
	if f.packs, err = newPackCache(cfg.Share, cmp.Or(cfg.Packs, cfg.Dir+".packs"), cfg.CacheSize); err != nil {
		return nil, err
	}
	return f, f.removeLeftovers()
}

// Request is what one attempt needs.
type Request struct {
	Source   job.Source
	Dir      string        // work tree to make; As can write to the folder above it
	As       *process.User // user that the attempt runs as; nil = the agent's own
	Key      string        // of the attempt, in the environment of all that is started for it
	ReadFile bool          // the text of job.SourceFile is wanted
}

// Tree is a source that was placed.
type Tree struct {
	Dir  string // work tree; "" = there is none
	File string // text of job.SourceFile, if the request asks for it
}

// Error says why an attempt has no source. It wraps a startfault.Fault, unless the
// job's own file is wrong.
type Error struct {
	Details   string // lines for the attempt's standard error: all that is known
	WrongFile bool   // the source is there, and its job.SourceFile cannot be used: another attempt finds the same
	Err       error  // a sentence for the job's owner
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error below.
func (e *Error) Unwrap() error { return e.Err }

// Place fetches a source and makes its work tree. An error is an *Error. When the
// context ends first, everything that was started for the attempt is killed.
func (f *Fetcher) Place(ctx context.Context, r Request) (Tree, error) {
	limited, cancel := context.WithTimeoutCause(ctx, f.cfg.Timeout, errTooSlow)
	defer cancel()
	a := &attempt{Fetcher: f, Request: r}
	tree := Tree{Dir: r.Dir}
	if r.Source.Tree != "" {
		if err := a.placeTree(limited); err != nil {
			return Tree{}, &Error{
				Details: treeDetails(r.Source.Tree, err),
				Err:     startfault.New(startfault.CauseOf(err, causeOfTree), "%w", err),
			}
		}
		return tree, nil
	}
	err := a.fetch(limited, r.Dir)
	if err == nil && r.ReadFile {
		tree.File, err = a.readFile(limited)
	}
	switch {
	case err == nil:
		return tree, nil
	case errors.As(err, new(wrongFile)):
		return Tree{}, &Error{Details: err.Error() + "\n", WrongFile: true, Err: err}
	}
	return Tree{}, &Error{
		Details: fmt.Sprintf("the source %s at %s cannot be fetched\n%s\n", r.Source.Repository, r.Source.Commit, details(err)),
		Err:     startfault.New(startfault.CauseOf(err, causeOf), "the source cannot be fetched: %w", err),
	}
}

// checkPrograms says why nothing can be fetched on this node.
func (f *Fetcher) checkPrograms(large bool) error {
	if _, err := process.LookUp("git", f.path, ""); err != nil {
		return errors.New("git is not installed on this node, and the job has a source; install git in the pool's image or setup")
	}
	if _, err := process.LookUp("git-lfs", f.path, ""); err != nil && large {
		return errNoLFS
	}
	return nil
}

// errTooSlow is the end of a fetch that took too long.
var errTooSlow = errors.New("it took longer than DSVM_SOURCE_TIMEOUT")

// errOnNode says that a repository of the node itself is not fetched.
var errOnNode = errors.New("its repository is on the node itself, which jobs of this node may not read as the agent does; " +
	"set DSVM_SOURCE_LOCAL=true on a machine of your own")

// attempt fetches for one attempt.
type attempt struct {
	*Fetcher
	Request
	credential *credential
	gate       *outbound.Gate // everything that git connects to goes through it
	submodules int            // so far
}

// fetch fetches the attempt's source into its work tree.
func (a *attempt) fetch(ctx context.Context, tree string) (err error) {
	if err := a.checkPrograms(a.Source.LFS); err != nil {
		return err
	}
	if name := a.Source.Credential; name != "" {
		if a.credential, err = readCredential(a.cfg.Credentials, name); err != nil {
			return err
		}
		if !a.credential.covers(a.Source.Repository) {
			return fmt.Errorf("the credential %q of this node is for other repositories; name another one", name)
		}
	}
	if err := a.checkTransport(a.Source.Repository); err != nil {
		return err
	}
	if a.gate, err = a.openGate(); err != nil {
		return err
	}
	defer a.gate.Close()
	err = a.fetchRepository(ctx, a.Source.Repository, a.Source.Commit, tree)
	if err == nil && a.Source.Submodules {
		err = a.fetchSubmodules(ctx, a.Source.Repository, a.Source.Commit, tree, 1)
	}
	return err
}

// mayReadNode reports whether repositories of the node itself may be fetched. Where
// jobs run as the agent's own user, git reads nothing for them that they could not
// read themselves.
func (a *attempt) mayReadNode() bool { return a.cfg.Local || a.As == nil }

// checkTransport says why a repository's transport is not used on this node.
func (a *attempt) checkTransport(repository string) error {
	if strings.HasPrefix(repository, "file:") && !a.mayReadNode() {
		return errOnNode
	}
	return nil
}

// fetchRepository puts a commit of a repository into a directory. If that fails with
// the content of the cache, it is tried once more with a new cache: the old one may
// be damaged.
func (a *attempt) fetchRepository(ctx context.Context, repository, commit, tree string) error {
	r := a.takeCache(repository)
	defer a.releaseCache(r)
	dir, old, err := a.ensureCommit(ctx, r, repository, commit)
	if err != nil && !old {
		return err
	}
	if err == nil {
		err = a.fillTree(ctx, dir, repository, commit, tree)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if dir, err = a.renewCache(ctx, r, dir, repository, commit); err != nil {
		return err
	}
	return a.fillTree(ctx, dir, repository, commit, tree)
}

// fillTree makes a work tree from a cache's directory.
func (a *attempt) fillTree(ctx context.Context, dir, repository, commit, tree string) error {
	err := a.unpack(ctx, dir, repository, commit, tree)
	if err == nil && a.Source.LFS {
		err = a.placeLargeFiles(ctx, dir, repository, commit, tree)
	}
	return err
}

// wrongFile says what is wrong with the file of the source's own jobs.
type wrongFile struct{ error }

func refuseFile(format string, args ...any) error {
	return wrongFile{fmt.Errorf(format, args...)}
}

// readFile reads the source's own jobs.
func (a *attempt) readFile(ctx context.Context) (string, error) {
	name := path.Join(a.Source.Path, job.SourceFile)
	entry, err := a.treeEntry(ctx, a.Source.Commit, a.Dir, name)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(entry, "100") {
		return "", refuseFile("the repository has no file %s at this commit; add one that holds the jobs", name)
	}
	text, err := a.gitInTree(ctx, a.Dir, "cat-file", "blob", a.Source.Commit+":"+name)
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

// Workdir returns the directory of a work tree that an attempt starts in: path is the
// source's, workdir the job's below it. The process itself looks it up once more, as
// the user that jobs run as. The error is a startfault.Fault.
func (t Tree) Workdir(path, workdir string) (string, error) {
	name := filepath.Join(path, workdir)
	quoted := startfault.Clip(name)
	if !filepath.IsLocal(filepath.Join(".", name)) || strings.ContainsRune(name, 0) {
		return "", startfault.New(job.CauseNoWorkdir, "the directory %q leads out of the source; write a path below it", quoted)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(t.Dir, name))
	if err != nil {
		return "", startfault.New(startfault.OfPath(err, job.CauseNoWorkdir), "the source has no directory %q", quoted)
	}
	base, err := filepath.EvalSymlinks(t.Dir)
	if err != nil {
		return "", startfault.New(startfault.OnNode(err), "the source cannot be read: %w", startfault.Innermost(err))
	}
	if below, err := filepath.Rel(base, real); err != nil || !filepath.IsLocal(below) {
		return "", startfault.New(job.CauseNoWorkdir, "the directory %q of the source is a link that leads out of it", quoted)
	}
	if at, err := os.Stat(real); err != nil || !at.IsDir() {
		return "", startfault.New(job.CauseNoWorkdir, "%q of the source is not a directory", quoted)
	}
	return real, nil
}
