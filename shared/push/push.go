// Package push has the rules that say which Git pushes start which jobs. For the use
// cases and the command line it reads the deliveries of five Git hosts, checks their
// signatures, matches them against rules and makes the documents of the jobs. It is
// pure: it never looks up a secret, sends or stores anything.
package push

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/plain"
)

// Provider is a kind of Git host, as it stands in the address of a hook.
type Provider string

const (
	GitHub      Provider = "github"
	AzureDevOps Provider = "azuredevops"
	GitLab      Provider = "gitlab"
	Gitea       Provider = "gitea" // and Forgejo, which sends the same
	Bitbucket   Provider = "bitbucket"
)

// Providers are all of them.
var Providers = []Provider{GitHub, AzureDevOps, GitLab, Gitea, Bitbucket}

// Known reports whether there is such a provider.
func (p Provider) Known() bool { return slices.Contains(Providers, p) }

// Limits of what is taken from a payload. The rest of it is dropped: a job's
// document has 32 KiB for all of it.
const (
	maxRef      = 512  // bytes of a ref; the hosts allow half of it
	maxName     = 300  // bytes of a repository's name
	maxPerson   = 200  // bytes of an author, as a job's `user` has
	maxMessage  = 2000 // bytes of a commit's message
	maxClone    = 2000 // bytes of an address
	maxPath     = 4096 // bytes of a file's name, as Linux has
	maxChanges  = 100  // refs in one delivery
	maxDelivery = 200  // bytes of a delivery's id
)

// Push is one ref that was moved.
type Push struct {
	Provider   Provider `json:"provider"`
	Repository string   `json:"repository"` // owner/name; group/…/name; organization/project/name
	CloneURL   string   `json:"cloneURL"`   // http or https, without a user
	Ref        string   `json:"ref"`        // in full
	Branch     string   `json:"branch,omitempty"`
	Tag        string   `json:"tag,omitempty"`
	Before     string   `json:"before,omitempty"` // where the ref was; "" = it is new
	Commit     string   `json:"commit,omitempty"` // where it is; "" = it is gone
	Author     string   `json:"author,omitempty"` // of that commit
	Pusher     string   `json:"pusher,omitempty"`
	Message    string   `json:"message,omitempty"` // of that commit
	Created    bool     `json:"created,omitempty"`
	Deleted    bool     `json:"deleted,omitempty"`
	Forced     bool     `json:"forced,omitempty"` // where the provider says so
	Files      []string `json:"files,omitempty"`  // that differ; nil unless FilesKnown
	FilesKnown bool     `json:"filesKnown"`
	// Unlisted says why the files are not known, as the end of a sentence.
	Unlisted string `json:"unlisted,omitempty"`
	Delivery string `json:"delivery,omitempty"` // id that the provider gave it; it is not signed
}

var (
	commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	clonePattern  = regexp.MustCompile(`^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\s\x00-\x20"'\\]*)?$`)
)

// finish fills in what follows from the rest, shortens what people write, and
// refuses what no host would send.
func (p *Push) finish() error {
	if p.Created = p.Before == "" || strings.Trim(p.Before, "0") == ""; p.Created {
		p.Before = ""
	}
	if p.Deleted = p.Deleted || p.Commit == "" || strings.Trim(p.Commit, "0") == ""; p.Deleted {
		p.Commit = ""
	}
	switch {
	case p.Repository == "" || len(p.Repository) > maxName || strings.ContainsFunc(p.Repository, isUnprintable):
		return errBroken("the repository's name")
	case p.Ref == "" || len(p.Ref) > maxRef || strings.ContainsFunc(p.Ref, isUnprintable):
		return errBroken("the ref")
	case p.Commit != "" && !commitPattern.MatchString(p.Commit), p.Before != "" && !commitPattern.MatchString(p.Before):
		return errBroken("a commit's id")
	case len(p.CloneURL) > maxClone || !clonePattern.MatchString(p.CloneURL):
		return errBroken("the repository's address")
	}
	p.Branch, _ = strings.CutPrefix(p.Ref, "refs/heads/")
	if p.Branch == p.Ref {
		p.Branch = ""
	}
	p.Tag, _ = strings.CutPrefix(p.Ref, "refs/tags/")
	if p.Tag == p.Ref {
		p.Tag = ""
	}
	p.Author, p.Pusher = squeeze(p.Author, maxPerson), squeeze(p.Pusher, maxPerson)
	p.Message = plain.Clip(strings.ReplaceAll(strings.ToValidUTF8(p.Message, "\uFFFD"), "\x00", ""), maxMessage)
	p.Delivery = squeeze(p.Delivery, maxDelivery)
	p.checkFileList()
	return nil
}

// checkFileList decides whether the list of files can be trusted to be whole.
func (p *Push) checkFileList() {
	switch {
	case p.Unlisted != "":
	case p.Tag != "":
		p.Unlisted = "a tag has no changed files"
	case p.Created:
		p.Unlisted = "the branch is new, so that there is nothing to compare with"
	case p.Forced:
		p.Unlisted = "the push was forced, and what it took away is not listed"
	}
	if p.FilesKnown = p.Unlisted == "" && !p.Deleted; !p.FilesKnown {
		p.Files = nil
		return
	}
	for i := range p.Files {
		p.Files[i] = plain.Clip(unquote(p.Files[i]), maxPath)
	}
	slices.Sort(p.Files)
	p.Files = slices.Compact(p.Files)
}

// Title is the first line of the message.
func (p *Push) Title() string {
	first, _, _ := strings.Cut(p.Message, "\n")
	return squeeze(first, maxPerson)
}

// skipMarks in the message of a pushed commit ask for no jobs; Git hosts and
// their runners know the same ones.
var skipMarks = []string{"[skip ci]", "[ci skip]", "[no ci]", "***no_ci***"}

// AsksForNoJobs reports whether the pushed commit's message asks for no jobs.
func (p *Push) AsksForNoJobs() bool {
	low := strings.ToLower(p.Message)
	return slices.ContainsFunc(skipMarks, func(mark string) bool { return strings.Contains(low, mark) })
}

func errBroken(what string) error {
	return fault.New(fault.Invalid, "", "the payload does not look like a push: %s is missing or has no usable form", what)
}

// isUnprintable are runes that no name on a Git host has.
func isUnprintable(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }

// squeeze makes one line of a text, of at most so many bytes, with single blanks.
func squeeze(s string, most int) string {
	return strings.TrimSpace(plain.Clip(strings.Join(strings.Fields(plain.Line(s)), " "), most))
}

// unquote undoes the quotes that git puts around names with bytes outside of
// ASCII, which some hosts hand through: "caf\303\251.txt".
func unquote(name string) string {
	if len(name) < 2 || name[0] != '"' || name[len(name)-1] != '"' {
		return name
	}
	inner := name[1 : len(name)-1]
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		switch {
		case c == '"':
			return name // a quote within: not git's form
		case c != '\\':
			out = append(out, c)
			continue
		case i+1 == len(inner):
			return name
		}
		i++
		if at := strings.IndexByte(`abtnvfr"\`, inner[i]); at >= 0 {
			out = append(out, "\a\b\t\n\v\f\r\"\\"[at])
			continue
		}
		if i+2 >= len(inner) || !isOctal(inner[i:i+3]) {
			return name
		}
		out = append(out, (inner[i]-'0')<<6|(inner[i+1]-'0')<<3|(inner[i+2]-'0'))
		i += 2
	}
	if !utf8.Valid(out) {
		return name
	}
	return string(out)
}

func isOctal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}

// Host is the part of an address that names the machine, with its port, in
// small letters; "" when it has none.
func Host(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	return strings.ToLower(host)
}
