package push

import (
	"encoding/json"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// MaxBody bounds a delivery: what GitHub sends at most.
const MaxBody = 25 << 20

// Header returns the value of a header of a delivery, "" when it is not there.
type Header func(name string) string

// Delivery is what a Git host sent.
type Delivery struct {
	Pushes  []Push // one for each ref that was moved
	Ignored string // why there are none, in one sentence
}

// Parse reads a delivery, which must have been verified before. Errors are
// *fault.Error with code Invalid.
func Parse(provider Provider, header Header, body []byte) (Delivery, error) {
	if strings.HasPrefix(strings.ToLower(header("Content-Type")), "application/x-www-form-urlencoded") {
		return Delivery{}, fault.New(fault.Invalid, "Content-Type",
			"the payload comes as a form; set the content type of the hook to application/json")
	}
	var d Delivery
	var err error
	switch provider {
	case GitHub, Gitea:
		d, err = parseGitHub(provider, header, body)
	case GitLab:
		d, err = parseGitLab(header, body)
	case Bitbucket:
		d, err = parseBitbucket(header, body)
	case AzureDevOps:
		d, err = parseAzure(body)
	default:
		return d, errUnknownProvider(provider)
	}
	if err != nil {
		return Delivery{}, err
	}
	for i := range d.Pushes {
		d.Pushes[i].Provider = provider
		if err := d.Pushes[i].finish(); err != nil {
			return Delivery{}, err
		}
	}
	if len(d.Pushes) == 0 && d.Ignored == "" {
		d.Ignored = "the delivery moves no ref, so there is nothing to do"
	}
	return d, nil
}

func errUnknownProvider(provider Provider) error {
	names := make([]string, len(Providers))
	for i, p := range Providers {
		names[i] = string(p)
	}
	return fault.New(fault.NotFound, "provider", "there is no provider %.50q; the providers are %s", string(provider),
		strings.Join(names, ", "))
}

// ping answers what a host sends to try a hook out.
func ping() Delivery {
	return Delivery{Ignored: "the hook works: this was a ping"}
}

func ignore(event string) Delivery {
	return Delivery{Ignored: "only pushes start jobs; the event " + document.Clip(event) + " is ignored"}
}

// decodePayload decodes a payload that is known to be of the right kind.
func decodePayload(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fault.New(fault.Invalid, "", "the payload is not the JSON of a push (%s); it may have been cut off on its way",
			document.Clip(err.Error()))
	}
	return nil
}

// commit is a commit as GitHub, Gitea and GitLab list it.
type commit struct {
	ID      string
	Message string
	Author  struct{ Name, Username string }
	Added, Modified,
	Removed []string
}

func (c *commit) author() string {
	if c.Author.Username != "" {
		return c.Author.Username
	}
	return c.Author.Name
}

// setCommit copies what a push is about from its commit.
func (p *Push) setCommit(c *commit) {
	p.Author, p.Message = c.author(), c.Message
}

// files are those of all listed commits. A file that was renamed is in it
// under both names.
func files(commits []commit) []string {
	var all []string
	for i := range commits {
		all = append(all, commits[i].Added...)
		all = append(all, commits[i].Modified...)
		all = append(all, commits[i].Removed...)
	}
	return all
}

const moreCommits = "the push has more commits than the payload lists"
