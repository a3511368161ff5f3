package job

import (
	"regexp"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/tree"
)

// maxRepositoryLength is more than any hosting service allows, in bytes.
const maxRepositoryLength = 1000

// SourceFile holds the jobs of a repository, and lies in the source's path. It is
// a text of at most MaxSourceFile bytes, which fit into a report however they are
// escaped.
const (
	SourceFile    = ".dsvm.yaml"
	MaxSourceFile = 32 << 10
)

// Source is the commit, or the tree, that a job runs in. The node fetches it.
type Source struct {
	Repository string `json:"repository,omitempty"` // https or ssh, without credentials; the agent may also allow local http and file
	Commit     string `json:"commit,omitempty"`     // its whole name, in lower case
	Tree       string `json:"tree,omitempty"`       // in their place: a folder that was sent to the share, as tree.Prefix and its hash
	Path       string `json:"path,omitempty"`       // below the work tree, where the job starts; "" = its top
	Submodules bool   `json:"submodules,omitempty"` // with all of theirs
	LFS        bool   `json:"lfs,omitempty"`
	Credential string `json:"credential,omitempty"` // name that the agents know it by, never the secret itself
}

var (
	commitPattern     = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	credentialPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	// addressPattern has a scheme, a login, a host with its port, and a path. It
	// is narrower than a URL: nothing in it means anything to a shell or an option.
	addressPattern = regexp.MustCompile(`^([a-z]+)://([^/]*@)?([^/@]*)(/(?:[A-Za-z0-9._~:@!$&'()*+,;=/-]|%[0-9A-Fa-f]{2})*)$`)
	hostPattern    = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
	loginPattern   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*@$`)
	loopback       = regexp.MustCompile(`^(localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]+)?$`)
	upwards        = regexp.MustCompile(`(?i)/(\.|%2e){1,2}(/|%2f|$)|%00`)
)

// source reads the field `source`; nil when it is not there.
func source(r *document.Reader) *Source {
	sub := r.Sub("source", `{"repository": "https://github.com/acme/train", "commit": "…"}`, "repository", "commit", "tree", "path",
		"submodules", "lfs", "credential")
	if sub == nil {
		return nil
	}
	s := &Source{
		Repository: sub.String("repository", "https://github.com/acme/train"),
		Commit:     sub.String("commit", strings.Repeat("c", 40)),
		Tree:       sub.String("tree", tree.Prefix+"…"),
		Path:       sub.String("path", "training"),
		Submodules: sub.Bool("submodules", false),
		LFS:        sub.Bool("lfs", false),
		Credential: sub.String("credential", "github"),
	}
	if s.Path == "." {
		s.Path = ""
	}
	return s
}

// Validate checks a source; nil is none.
func (s *Source) Validate() error {
	if s == nil {
		return nil
	}
	if s.Tree != "" {
		return s.validateTree()
	}
	if err := CheckRepository(s.Repository); err != nil {
		return err
	}
	const commit = "source.commit"
	switch {
	case s.Commit == "":
		return invalid(commit, "`%s` is missing; write the whole name of the commit", commit)
	case !commitPattern.MatchString(s.Commit):
		return invalid(commit, "`%s` is %q; write the whole name of a commit, 40 or 64 of 0-9 a-f, and no branch or tag", commit,
			document.Clip(s.Commit))
	case strings.Trim(s.Commit, "0") == "":
		return invalid(commit, "`%s` is all zeros, which stands for no commit; write the name of one", commit)
	case s.Credential != "" && !credentialPattern.MatchString(s.Credential):
		// What it says may be a secret, written where its name belongs.
		return invalid("source.credential",
			"`source.credential` is no name; write 1 to 64 characters of A-Z a-z 0-9 . _ -, the name that the nodes know the credential by")
	}
	return s.validatePath()
}

// validateTree checks a source that is a tree.
func (s *Source) validateTree() error {
	for _, other := range []struct {
		name string
		set  bool
	}{
		{"repository", s.Repository != ""}, {"commit", s.Commit != ""}, {"submodules", s.Submodules}, {"lfs", s.LFS},
		{"credential", s.Credential != ""},
	} {
		if other.set {
			return invalid("source."+other.name,
				"`source.tree` and `source.%s` are both there; a tree is no repository: keep one of them", other.name)
		}
	}
	if _, ok := tree.ParseName(s.Tree); !ok {
		return invalid("source.tree", "`source.tree` is %q; write %s and 64 of 0-9 a-f, the name that `--sync` and the API give a tree",
			document.Clip(s.Tree), tree.Prefix)
	}
	return s.validatePath()
}

func (s *Source) validatePath() error {
	const field = "source.path"
	if err := shown(field, s.Path); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(s.Path, "/"), strings.Contains(s.Path, `\`):
		return invalid(field, "`%s` is %q; write a path below the repository's top, with /", field, document.Clip(s.Path))
	}
	for part := range strings.SplitSeq(s.Path, "/") {
		if part == ".." || strings.EqualFold(part, ".git") {
			return invalid(field, "`%s` is %q; write a path below the repository's top, without .. and .git", field, document.Clip(s.Path))
		}
	}
	return nil
}

// CheckRepository says what is wrong with the address of a repository. The error
// is a *fault.Error for the person who wrote it, and never quotes a credential.
func CheckRepository(at string) error {
	const field = "source.repository"
	switch {
	case at == "":
		return invalid(field, "`%s` is missing; write the address of the repository, for example https://github.com/acme/train", field)
	case len(at) > maxRepositoryLength:
		return invalid(field, "`%s` has %d bytes; shorten it to %d", field, len(at), maxRepositoryLength)
	case !strings.Contains(at, "://"):
		return invalid(field, "`%s` is no address; write https://host/path or ssh://git@host/path", field)
	}
	parts := addressPattern.FindStringSubmatch(at)
	if parts == nil {
		return invalid(field,
			"`%s` cannot be read; write https://host/path or ssh://git@host/path, with other characters as %%XX and without ? and #",
			field)
	}
	scheme, login, host, path := parts[1], parts[2], parts[3], parts[4]
	switch {
	case scheme != "https" && scheme != "ssh" && scheme != "http" && scheme != "file":
		return invalid(field, "`%s` is %s; write https or ssh", field, document.Clip(scheme))
	case login != "" && (scheme != "ssh" || !loginPattern.MatchString(login)):
		return invalid(field,
			"`%s` has a user or a secret in it; leave that out, and name a credential of the nodes in `source.credential`", field)
	case scheme == "file" && host != "":
		return invalid(field, "`%s` is a file of another host; write file:///path", field)
	case scheme != "file" && !hostPattern.MatchString(host):
		return invalid(field, "`%s` names no host; write https://host/path", field)
	case scheme == "http" && !loopback.MatchString(host):
		return invalid(field, "`%s` is http, which anybody on the way can read and change; write https", field)
	case strings.Trim(path, "/") == "" || upwards.MatchString(path):
		return invalid(field, "`%s` names no repository on the host; write its whole path, without . and ..", field)
	}
	return nil
}
